package api

import "time"

// TerminalWindow is how many bytes either end of a terminal may send that the
// other has not yet acknowledged. It is what bounds the memory of all between.
const TerminalWindow = 256 << 10

// TerminalFrame is a text frame of a terminal's WebSocket; one of its fields
// is set. Binary frames are what is typed and printed.
type TerminalFrame struct {
	Hello  *TerminalHello `json:"hello,omitempty"`  // from the instance, first of all
	Resize *TerminalSize  `json:"resize,omitempty"` // from the client
	Ack    int            `json:"ack,omitempty"`    // so many bytes more were taken, of binary frames and Stderr
	Stderr []byte         `json:"stderr,omitempty"` // of a command without a terminal of its own
	EOF    bool           `json:"eof,omitempty"`    // from the client: nothing more comes on stdin
	Idle   int            `json:"idle,omitempty"`   // from the director: seconds until the terminal is closed, unless somebody types
	Exit   *TerminalExit  `json:"exit,omitempty"`   // from the instance, last of all
	Error  *Error         `json:"error,omitempty"`  // why the terminal is closed
}

// TerminalSize is a number of characters.
type TerminalSize struct {
	Cols int `json:"cols"`
	Rows int `json:"rows"`
}

// TerminalHello tells where one has got to.
type TerminalHello struct {
	Instance string `json:"instance"`
	User     string `json:"user"` // account that the shell runs as
	Dir      string `json:"dir"`  // directory that it begins in
	// Shared says that the instance is no machine of its own: the shell runs on
	// the director's machine, as the director's account.
	Shared bool `json:"shared"`
}

// TerminalExit is how a shell or a command ended.
type TerminalExit struct {
	Code   int    `json:"code"`             // 128 and the signal's number after a signal
	Signal string `json:"signal,omitempty"` // that ended it
}

// Directory is what a directory of an instance holds, sorted by name.
type Directory struct {
	Path    string  `json:"path"` // absolute
	Entries []Entry `json:"entries"`
	More    bool    `json:"more"` // there are more than are listed
}

// Entry is a file in a directory of an instance.
type Entry struct {
	Name     string    `json:"name"`
	Type     string    `json:"type" enum:"file,directory,link,other"`
	Target   string    `json:"target,omitempty"` // of a link
	Of       string    `json:"of,omitempty"`     // type of what a link leads to; empty: to nothing
	Bytes    int64     `json:"bytes"`
	Mode     string    `json:"mode"` // -rw-r--r--
	Modified time.Time `json:"modified"`
}
