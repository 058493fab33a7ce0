// Package plan runs the steps that make an image, one after the other, and
// keeps what they make in one directory beside the result until all is done.
// A plan that fails or is killed leaves nothing that looks like a result.
package plan

import (
	"context"
	"fmt"
)

// Progress is told what is being done and how much of the whole is, 0 to 1.
type Progress = func(step string, fraction float64)

// Step is one piece of the work.
type Step struct {
	Name  string  // as a user reads it: "pack the disk"
	Share float64 // of the time that all steps take, in any unit
	// Do tells how much of the step is done, 0 to 1, and what of it it is at,
	// if that is worth a word.
	Do func(ctx context.Context, progress Progress) error
}

// Run does the steps in order and stops at the first that fails or when ctx
// ends. The error names the step. Progress may be nil.
func Run(ctx context.Context, steps []Step, progress Progress) error {
	if progress == nil {
		progress = func(string, float64) {}
	}
	whole, done := 0.0, 0.0
	for _, s := range steps {
		whole += s.Share
	}
	for _, s := range steps {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		progress(s.Name, done/whole)
		err := s.Do(ctx, func(detail string, fraction float64) {
			name := s.Name
			if detail != "" {
				name += ": " + detail
			}
			progress(name, (done+s.Share*min(max(fraction, 0), 1))/whole)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		done += s.Share
	}
	progress("done", 1)
	return nil
}
