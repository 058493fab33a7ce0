-- By which address people outside of a cloud reach an instance.
ALTER TABLE instance ADD COLUMN public TEXT NOT NULL DEFAULT '';
