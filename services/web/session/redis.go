package session

import (
	"context"
	"crypto/sha1" //nolint:gosec // names a script, as the Redis protocol has it
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/redcon"
)

// releaseScript is the only one that PHP's session handler runs; it gives a
// lock back.
const releaseScript = `if redis.call("get",KEYS[1]) == ARGV[1] then return redis.call("del",KEYS[1]) else return 0 end`

// lockWait is how long one question for a lock waits; PHP asks again and again.
const lockWait = 400 * time.Millisecond

// frontTime bounds what PHP waits for one command.
const frontTime = 5 * time.Second

// front speaks as much of the Redis protocol as PHP's session handler does.
// It is not a Redis: keys hold sessions, or locks when they end in _LOCK.
type front struct {
	c       *cluster
	release string // hash of releaseScript
}

func newFront(c *cluster) *front {
	sum := sha1.Sum([]byte(releaseScript)) //nolint:gosec // see above
	return &front{c: c, release: hex.EncodeToString(sum[:])}
}

// locked are the locks that a connection has taken, by key: PHP asks for them
// again before it writes.
type locked map[string]*grant

// knownTime is how long what was told with a lock is good for: PHP asks at
// once.
const knownTime = time.Second

// held is the connection's lock on a session, or nil.
func (f *front) held(conn redcon.Conn, session string) *grant {
	mine, _ := conn.Context().(locked)
	if g := mine[session+lockSuffix]; g != nil && g.until.After(f.c.now()) {
		return g
	}
	return nil
}

// known is what was told of a session with its lock, once.
func (f *front) known(conn redcon.Conn, session string) map[string]entry {
	g := f.held(conn, session)
	if g == nil {
		return nil
	}
	known := g.known
	g.known = nil
	if f.c.now().Sub(g.at) > knownTime {
		return nil
	}
	return known
}

// releases is the lock of the session that is being written, if the connection
// has it: PHP writes once, and gives the lock back with its next word.
func (f *front) releases(conn redcon.Conn, session string) []entry {
	if g := f.held(conn, session); g != nil {
		return []entry{f.c.release(session+lockSuffix, g.token)}
	}
	return nil
}

// released takes note of who has given the lock back with the write.
func (f *front) released(conn redcon.Conn, session string, by map[string]bool) {
	if g := f.held(conn, session); g != nil {
		g.released = by
	}
}

// ServeRESP implements redcon.Handler.
func (f *front) ServeRESP(conn redcon.Conn, cmd redcon.Command) {
	ctx, cancel := context.WithTimeout(context.Background(), frontTime)
	defer cancel()
	args := make([]string, len(cmd.Args))
	for i, a := range cmd.Args {
		args[i] = string(a)
	}
	name := strings.ToUpper(args[0])
	for _, c := range []struct {
		names string
		least int
		do    func(context.Context, redcon.Conn, []string) error
	}{
		{"PING", 0, f.ping}, {"AUTH SELECT CLIENT", 0, f.fine}, {"QUIT", 0, f.quit},
		{"GET", 1, f.get}, {"GETEX", 1, f.get}, {"EXISTS", 1, f.exists}, {"SET", 2, f.set}, {"SETEX", 3, f.setex}, {"PSETEX", 3, f.setex},
		{"EXPIRE", 2, f.expire}, {"PEXPIRE", 2, f.expire}, {"DEL UNLINK", 1, f.del}, {"EVAL EVALSHA", 4, f.eval},
	} {
		if !strings.Contains(" "+c.names+" ", " "+name+" ") {
			continue
		}
		if len(args)-1 < c.least {
			conn.WriteError("ERR wrong number of arguments for " + name)
			return
		}
		if c.least > 0 && !strings.HasPrefix(name, "EVAL") && (args[1] == "" || len(args[1]) > maxKey) {
			conn.WriteError("ERR the name of a session has 1 to " + strconv.Itoa(maxKey) + " bytes")
			return
		}
		if err := c.do(ctx, conn, args); err != nil {
			f.c.log.Warn("not done for PHP", "command", name, "error", err)
			conn.WriteError("ERR " + strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		return
	}
	conn.WriteError("ERR this store keeps PHP sessions and does not know " + fmt.Sprintf("%.20q", name))
}

func (f *front) ping(_ context.Context, conn redcon.Conn, _ []string) error {
	conn.WriteString("PONG")
	return nil
}

func (f *front) fine(_ context.Context, conn redcon.Conn, _ []string) error {
	conn.WriteString("OK")
	return nil
}

func (f *front) quit(_ context.Context, conn redcon.Conn, _ []string) error {
	conn.WriteString("OK")
	return conn.Close()
}

func (f *front) get(ctx context.Context, conn redcon.Conn, args []string) error {
	if isLock(args[1]) {
		mine, _ := conn.Context().(locked)
		if h, ok := mine[args[1]]; ok && h.until.After(f.c.now()) {
			conn.WriteBulkString(h.token)
		} else {
			conn.WriteNull()
		}
		return nil
	}
	e, err := f.c.read(ctx, args[1], f.known(conn, args[1]))
	if err != nil {
		return err
	}
	if !e.live(f.c.millis()) {
		conn.WriteNull()
		return nil
	}
	if strings.EqualFold(args[0], "GETEX") && len(args) == 4 {
		until, err := f.until(args[3], strings.EqualFold(args[2], "PX"))
		if err == nil {
			_, err = f.c.touch(ctx, args[1], until)
		}
		if err != nil {
			return err
		}
	}
	conn.WriteBulk(e.Value)
	return nil
}

func (f *front) exists(ctx context.Context, conn redcon.Conn, args []string) error {
	e, err := f.c.read(ctx, args[1], nil)
	if err == nil && e.live(f.c.millis()) {
		conn.WriteInt(1)
	} else if err == nil {
		conn.WriteInt(0)
	}
	return err
}

// until is when a number of seconds or milliseconds from now is over.
func (f *front) until(text string, milli bool) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > 1e12 {
		return 0, fmt.Errorf("%.20q is no time to live", text)
	}
	if !milli {
		n *= 1000
	}
	return f.c.millis() + n, nil
}

// set is SET key value [NX] [EX s|PX ms]: a lock, or a fresh session.
func (f *front) set(ctx context.Context, conn redcon.Conn, args []string) error {
	until, onlyNew := f.c.now().Add(24*time.Minute).UnixMilli(), false
	for i := 3; i < len(args); i++ {
		switch option := strings.ToUpper(args[i]); {
		case option == "NX":
			onlyNew = true
		case (option == "EX" || option == "PX") && i+1 < len(args):
			i++
			var err error
			if until, err = f.until(args[i], option == "PX"); err != nil {
				return err
			}
		default:
			return fmt.Errorf("SET has no option %.20q here", args[i])
		}
	}
	if isLock(args[1]) {
		return f.lock(ctx, conn, args[1], args[2], time.UnixMilli(until))
	}
	if onlyNew {
		if e, err := f.c.read(ctx, args[1], nil); err != nil || e.live(f.c.millis()) {
			conn.WriteNull()
			return err
		}
	}
	return f.save(ctx, conn, args[1], args[2], until)
}

func (f *front) lock(ctx context.Context, conn redcon.Conn, key, token string, until time.Time) error {
	// PHP would ask again every few milliseconds; waiting here costs less.
	end := f.c.now().Add(lockWait)
	known, ok := f.c.lock(ctx, key, token, until)
	for pause := 2 * time.Millisecond; !ok; pause = min(2*pause, 40*time.Millisecond) {
		if f.c.now().After(end) {
			conn.WriteNull()
			return nil
		}
		time.Sleep(pause)
		known, ok = f.c.lock(ctx, key, token, until)
	}
	mine, _ := conn.Context().(locked)
	if mine == nil {
		mine = locked{}
		conn.SetContext(mine)
	}
	mine[key] = &grant{lock: lock{token, until}, known: known, at: f.c.now()}
	conn.WriteString("OK")
	return nil
}

// closed gives back what a request that was ended had locked.
func (f *front) closed(conn redcon.Conn, _ error) {
	mine, _ := conn.Context().(locked)
	ctx, cancel := context.WithTimeout(context.Background(), frontTime)
	defer cancel()
	for key, h := range mine {
		f.c.unlock(ctx, key, h.token, h.released)
	}
}

func (f *front) setex(ctx context.Context, conn redcon.Conn, args []string) error {
	until, err := f.until(args[2], strings.EqualFold(args[0], "PSETEX"))
	if err != nil {
		return err
	}
	return f.save(ctx, conn, args[1], args[3], until)
}

func (f *front) save(ctx context.Context, conn redcon.Conn, key, value string, until int64) error {
	if len(value) > maxValue {
		return fmt.Errorf("a session of %d bytes is larger than %d", len(value), maxValue)
	}
	done, err := f.c.save(ctx, key, []byte(value), until, f.releases(conn, key)...)
	f.released(conn, key, done)
	if err == nil {
		conn.WriteString("OK")
	}
	return err
}

func (f *front) expire(ctx context.Context, conn redcon.Conn, args []string) error {
	until, err := f.until(args[2], strings.EqualFold(args[0], "PEXPIRE"))
	if err == nil {
		var done map[string]bool
		done, err = f.c.touch(ctx, args[1], until, f.releases(conn, args[1])...)
		f.released(conn, args[1], done)
	}
	if err == nil {
		conn.WriteInt(1)
	}
	return err
}

func (f *front) del(ctx context.Context, conn redcon.Conn, args []string) error {
	n := 0
	for _, key := range args[1:] {
		if isLock(key) {
			if mine, _ := conn.Context().(locked); mine[key] != nil {
				f.c.unlock(ctx, key, mine[key].token, mine[key].released)
				delete(mine, key)
				n++
			}
			continue
		}
		was, err := f.c.remove(ctx, key)
		if err != nil {
			return err
		}
		if was {
			n++
		}
	}
	conn.WriteInt(n)
	return nil
}

// eval is EVAL[SHA] script 1 key token, and the script gives a lock back.
func (f *front) eval(ctx context.Context, conn redcon.Conn, args []string) error {
	if script := strings.TrimSpace(args[1]); args[2] != "1" || script != releaseScript && !strings.EqualFold(script, f.release) {
		conn.WriteError("NOSCRIPT no such script")
		return nil
	}
	mine, _ := conn.Context().(locked)
	var released map[string]bool
	if g := mine[args[3]]; g != nil && g.token == args[4] {
		released = g.released
		delete(mine, args[3])
	}
	f.c.unlock(ctx, args[3], args[4], released)
	conn.WriteInt(1)
	return nil
}
