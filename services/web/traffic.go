package web

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"nutshell/roles/api"
)

// mostRead bounds what one look reads of a log. A log grows so much between
// two looks only when nobody has looked for long.
const mostRead = 64 << 20

// Request is what a line of an access log says of one request.
type Request struct {
	Status int
	Bytes  int64
	Took   time.Duration
}

// AccessLog counts the requests in an access log that a server goes on
// writing. It begins at the end of the log, so its counters begin at zero when
// the agent does.
type AccessLog struct {
	part, path string
	parse      func(line []byte) (Request, bool)
	bounds     []int64 // of buckets, milliseconds

	mu      sync.Mutex
	file    *os.File
	at      int64  // read up to here
	mark    []byte // what stands before that: a log that was truncated and has grown again has something else there
	rest    []byte // of a line that is not whole yet
	classes [5]int64
	bytes   int64
	sum     time.Duration
	buckets []int64 // beyond the last bound, too
}

// NewAccessLog counts for a part of the instance, and knows the lines by parse.
func NewAccessLog(part, path string, parse func(line []byte) (Request, bool)) *AccessLog {
	l := &AccessLog{part: part, path: path, parse: parse, bounds: timeBounds()}
	l.buckets = make([]int64, len(l.bounds)+1)
	l.open()
	l.at = l.size()
	l.mark = l.before(l.file, l.at)
	return l
}

// timeBounds are those of the time to answer, in milliseconds: each at most a
// seventh above the one before, so that a percentile is known to a tenth.
func timeBounds() []int64 {
	list := []int64{1}
	for b := int64(1); b < 60_000; {
		b = int64(math.Ceil(float64(b) * 1.15))
		list = append(list, b)
	}
	return list
}

func (l *AccessLog) open() {
	if l.file == nil {
		l.file, _ = os.Open(l.path) // not there yet: nobody has asked for anything
	}
}

func (l *AccessLog) size() int64 {
	if l.file == nil {
		return 0
	}
	st, err := l.file.Stat()
	if err != nil {
		return 0
	}
	return st.Size()
}

// Samples reads what is new and tells everything since the beginning.
func (l *AccessLog) Samples() ([]api.Sample, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.read()
	var list []api.Sample
	for i, n := range l.classes {
		if i == 0 && n == 0 {
			continue // almost nobody changes protocols
		}
		list = append(list, sample("nutshell_http_requests_total", float64(n), "part", l.part, "class", strconv.Itoa(i+1)+"xx"))
	}
	list = append(list, sample("nutshell_http_bytes_total", float64(l.bytes), "part", l.part))
	var sum int64
	for i, b := range l.bounds {
		sum += l.buckets[i]
		list = append(list, sample("nutshell_http_seconds_bucket", float64(sum), "part", l.part, "le", strconv.FormatFloat(float64(b)/1000, 'g', -1, 64)))
	}
	sum += l.buckets[len(l.buckets)-1]
	return append(list, sample("nutshell_http_seconds_bucket", float64(sum), "part", l.part, "le", "+Inf"),
		sample("nutshell_http_seconds_sum", l.sum.Seconds(), "part", l.part), sample("nutshell_http_seconds_count", float64(sum), "part", l.part)), err
}

func sample(name string, value float64, labels ...string) api.Sample {
	s := api.Sample{Name: name, Value: value, Labels: make(map[string]string, len(labels)/2)}
	for i := 0; i < len(labels); i += 2 {
		s.Labels[labels[i]] = labels[i+1] //nolint:gosec // pairs
	}
	return s
}

// read counts the lines that came since the last look. Logs are rotated by
// copying them to NAME.1 and truncating them, and so the end of one that was
// rotated is found there.
func (l *AccessLog) read() error {
	if l.file == nil {
		l.open()
	} else if !l.same() { // removed and made anew, perhaps by another process
		_ = l.file.Close()
		l.file, l.at, l.mark, l.rest = nil, 0, nil, nil
		l.open()
	}
	if l.file == nil {
		return nil
	}
	size := l.size()
	if size < l.at || !bytes.Equal(l.before(l.file, l.at), l.mark) {
		err := l.readRotated()
		l.at = 0
		if err != nil {
			return err
		}
	}
	if size-l.at > mostRead {
		l.at, l.rest = size-mostRead, nil // and the line that is cut is no line
	}
	n, err := l.count(l.file, l.at, size)
	l.at += n
	l.mark = l.before(l.file, l.at)
	return err
}

// before is what stands before an offset.
func (l *AccessLog) before(f *os.File, at int64) []byte {
	mark := make([]byte, min(at, 256))
	if f == nil || len(mark) == 0 {
		return nil
	}
	n, _ := f.ReadAt(mark, at-int64(len(mark))) // what can be read is compared
	return mark[:n]
}

func (l *AccessLog) same() bool {
	open, err1 := l.file.Stat()
	named, err2 := os.Stat(l.path)
	return err1 == nil && err2 == nil && os.SameFile(open, named)
}

func (l *AccessLog) readRotated() error {
	f, err := os.Open(l.path + ".1")
	if errors.Is(err, os.ErrNotExist) {
		l.rest = nil
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err == nil && st.Size() > l.at && bytes.Equal(l.before(f, l.at), l.mark) {
		_, err = l.count(f, max(l.at, st.Size()-mostRead), st.Size())
	}
	l.rest = nil
	return err
}

// count counts the lines of a file from one offset to another, and keeps the
// beginning of a line that is not whole yet.
func (l *AccessLog) count(f *os.File, from, to int64) (read int64, err error) {
	r := io.NewSectionReader(f, from, to-from)
	block := make([]byte, 64<<10)
	for {
		kept := copy(block, l.rest)
		if kept == len(block) {
			kept = 0 // no line is so long
		}
		n, err := r.Read(block[kept:])
		read += int64(n)
		text := block[:kept+n]
		for {
			i := bytes.IndexByte(text, '\n')
			if i < 0 {
				break
			}
			if q, ok := l.parse(text[:i]); ok {
				l.add(q)
			}
			text = text[i+1:]
		}
		l.rest = append(l.rest[:0], text...)
		if errors.Is(err, io.EOF) {
			return read, nil
		}
		if err != nil {
			return read, err
		}
	}
}

func (l *AccessLog) add(q Request) {
	if class := q.Status/100 - 1; class >= 0 && class < len(l.classes) {
		l.classes[class]++
	}
	l.bytes += q.Bytes
	l.sum += q.Took
	i, _ := slices.BinarySearch(l.bounds, int64((q.Took+time.Millisecond-1)/time.Millisecond))
	l.buckets[i]++
}
