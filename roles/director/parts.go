package director

import "context"

type parentKey struct{}

// partOf makes what is submitted with ctx a part of an operation, which is
// then not in its way.
func partOf(ctx context.Context, operation string) context.Context {
	return context.WithValue(ctx, parentKey{}, operation)
}

func parentOf(ctx context.Context) string {
	id, _ := ctx.Value(parentKey{}).(string)
	return id
}
