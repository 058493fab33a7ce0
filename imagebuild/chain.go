package imagebuild

import (
	"context"
	"path/filepath"

	"nutshell/imagebuild/recipe"
)

// Chain returns the layers of a chain of recipes, lowest first, and builds what
// is missing. A recipe that changes nothing makes no layer. Progress may be nil.
func (s *Store) Chain(ctx context.Context, chain []recipe.Recipe, progress Progress) ([]Layer, error) {
	if progress == nil {
		progress = func(string, float64) {}
	}
	var adding []recipe.Recipe
	for _, r := range chain {
		if r.Adds() {
			adding = append(adding, r)
		}
	}
	dirs, err := s.layers(ctx, adding, progress)
	if err != nil {
		return nil, err
	}
	return s.at(dirs)
}

// KindLayers is Layers that says what the layers are.
func (s *Store) KindLayers(ctx context.Context, kind string, packages []string, progress Progress) ([]Layer, error) {
	dirs, err := s.Layers(ctx, kind, packages, progress)
	if err != nil {
		return nil, err
	}
	return s.at(dirs)
}

// at reads the layers whose root file systems these are.
func (s *Store) at(dirs []string) ([]Layer, error) {
	list := make([]Layer, len(dirs))
	for i, dir := range dirs {
		var err error
		if list[i], err = s.read(filepath.Base(filepath.Dir(dir))); err != nil {
			return nil, err
		}
	}
	return list, nil
}
