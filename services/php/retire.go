package php

import (
	"context"
	"errors"
	"os"
)

// busy tells whether a PHP-FPM has requests.
func (f *fpm) busy(ctx context.Context, name string) (bool, error) {
	s, err := f.status(ctx, name)
	return s.Active > 0, err
}

func (f *fpm) end(ctx context.Context, name string) error {
	err := f.m.Supervisor().Stop(ctx, name)
	for _, path := range []string{f.file(name), f.socket(name), f.statusSocket(name)} {
		if e := os.Remove(path); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, os.RemoveAll(f.scanDir(name)))
}
