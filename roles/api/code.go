package api

import "time"

// Key is a public key with which a user signs in to the git server.
type Key struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`        // the key's comment unless the user gives another
	Type        string    `json:"type"`        // ssh-ed25519, ecdsa-sha2-nistp256, ssh-rsa, …
	Fingerprint string    `json:"fingerprint"` // SHA256:…, as ssh-keygen -l prints it
	Created     time.Time `json:"created"`
	Used        time.Time `json:"used,omitzero"`
}

// AddKey adds public keys: Text holds lines of an authorized_keys file.
type AddKey struct {
	Text string `json:"text"`
	Name string `json:"name,omitempty"` // only with a single key
}

// Repository is an application's git repository.
type Repository struct {
	Clone    string    `json:"clone"`    // the whole command line
	URL      string    `json:"url"`      // ssh://git@HOST:PORT/OWNER/APPLICATION
	HostKey  string    `json:"host_key"` // fingerprint, to compare at the first connection
	Branch   string    `json:"branch"`   // whose pushes become code versions
	Commit   string    `json:"commit"`   // what Branch shows, empty before the first push
	Subject  string    `json:"subject"`
	Pushed   time.Time `json:"pushed,omitzero"`
	Bytes    int64     `json:"bytes"`
	Branches []string  `json:"branches"`
	Folders  []Folder  `json:"folders"` // of the services that keep code
}

// Folder is where a service's code lives in the repository.
type Folder struct {
	Service int64    `json:"service"`
	Names   []string `json:"names"`   // its id and its name, either may be used
	Found   string   `json:"found"`   // the one that Branch has, or empty
	Version string   `json:"version"` // version of the last push that changed it
}

// ChangeService changes a service; nil fields stay.
type ChangeService struct {
	Name         *string `json:"name,omitempty"`
	AutoDeploy   *bool   `json:"auto_deploy,omitempty"`   // a push activates the version it makes
	KeepVersions *int    `json:"keep_versions,omitempty"` // older ones are deleted; 0: all are kept
	// Bind names the siblings whose offers it gets; "*" alone: all.
	Bind *[]string `json:"bind,omitempty"`
}

// StartUpload begins an upload that can go on after an interruption.
type StartUpload struct {
	Filename    string `json:"filename"`
	Bytes       int64  `json:"bytes"`
	Description string `json:"description,omitempty"`
	Strip       bool   `json:"strip,omitempty"`
	SHA256      string `json:"sha256,omitempty"` // checked at the end; also finds the upload again that was broken off
}

// Upload is an upload under way. The next piece begins at Offset.
type Upload struct {
	ID       string    `json:"id"`
	Filename string    `json:"filename"`
	Offset   int64     `json:"offset"`
	Bytes    int64     `json:"bytes"`
	Expires  time.Time `json:"expires"`
}

// File is one file of a code version.
type File struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	Mode   string `json:"mode"`             // as ls prints it
	Link   string `json:"link,omitempty"`   // of a symbolic link, where it leads
	SHA256 string `json:"sha256,omitempty"` // of a regular file
}

// Difference tells how the files of two versions differ.
type Difference struct {
	From    string       `json:"from"`
	To      string       `json:"to"`
	Files   []FileChange `json:"files"`   // sorted by path
	Same    int          `json:"same"`    // files that are alike
	Omitted int          `json:"omitted"` // changes left out because there are too many
}

// FileChange is one file that differs.
type FileChange struct {
	Path   string `json:"path"`
	Change string `json:"change" enum:"added,removed,changed"`
	Before int64  `json:"before"` // bytes
	After  int64  `json:"after"`
}

// Variable is an environment variable of a service. A secret's value is told
// to the service's own instances only; people get it empty.
type Variable struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Secret bool   `json:"secret,omitempty"`
}

// ChangeEnvironment sets and removes variables; others stay.
type ChangeEnvironment struct {
	Set   []Variable `json:"set,omitempty"`
	Unset []string   `json:"unset,omitempty"`
}
