package store

import (
	"context"
	"strings"
	"testing"

	"nutshell/roles/api"
)

func TestVersionsOfCommits(t *testing.T) {
	s := fresh(t)
	_, service := shop(t, s)
	commit := "git-abcdef1" + strings.Repeat("2", 33)
	insert := func(id, content string) api.CodeVersion {
		t.Helper()
		var v api.CodeVersion
		write(t, s, func(ctx context.Context, tx *Tx) error {
			var err error
			v, err = tx.InsertVersion(ctx, service, api.CodeVersion{ID: id, Filename: "code.tar.gz", SHA256: strings.Repeat(content, 64), Format: "tar.gz"})
			return err
		})
		return v
	}
	for _, c := range []struct{ id, content, want string }{
		{commit, "a", "git-abcdef1"},
		{commit, "a", "git-abcdef1"},      // pushed again
		{commit[:11], "a", "git-abcdef1"}, // the short form is the same
		{commit, "b", "git-abcdef12"},     // another commit that begins alike
		{commit, "b", "git-abcdef12"},
		{"git-abcdef1", "c", "git-abcdef1-2"},
		{"git-abcdef1", "c", "git-abcdef1-2"},
		{"git-abcdef1", "d", "git-abcdef1-3"},
	} {
		if v := insert(c.id, c.content); v.ID != c.want || v.SHA256 != strings.Repeat(c.content, 64) {
			t.Errorf("%s with content %s became %s with %.1s, want %s", c.id, c.content, v.ID, v.SHA256, c.want)
		}
	}
	first, second := insert("code-aaaaaa", "e"), insert("code-aaaaaa", "f")
	if first.ID != "code-aaaaaa" || second.ID == first.ID || len(second.ID) != len(first.ID) {
		t.Errorf("two uploads with one id became %s and %s", first.ID, second.ID)
	}
	all, err := s.Versions(t.Context(), service.Application, service.ID)
	if err != nil || len(all) != 6 || all[0].ID != second.ID {
		t.Errorf("listed: %v, %v", all, err)
	}
}
