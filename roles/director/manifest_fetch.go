package director

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"nutshell/roles/api"
)

// Bounds of fetching what a manifest names.
const (
	fetchTries     = 3
	fetchPause     = 2 * time.Second
	fetchRedirects = 5
	fetchWhole     = time.Hour
	fetchIdle      = time.Minute // nothing came
	fetchAnswer    = 30 * time.Second
)

// fetcher gets files from URLs that users name. The director stands where users
// do not: it reaches managers, metadata services of clouds and the machines of
// its network. So addresses that are not public are refused, at the moment of
// the connection, whatever a name resolved to before.
type fetcher struct {
	private bool // addresses that are not public are allowed
	most    int64
}

// notPublic are networks that IsPrivate and its like do not cover.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("fec0::/10"),
}

func public(ip netip.Addr) bool {
	ip = ip.Unmap()
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

// dialed is asked about each address just before it is connected to.
func (f fetcher) dialed(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !f.private && !public(at.Addr()) {
		return &api.Error{Code: api.CodeForbidden, Op: "fetch", Object: "from " + at.Addr().String(), Message: "this address is not public, and the director fetches from public addresses only",
			Hint: "send the file beside the manifest; an administrator can allow it by manifests.fetch_private"}
	}
	return nil
}

func (f fetcher) client() *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: f.dialed}
	t := &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: fetchAnswer, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true}
	if f.private {
		t.Proxy = http.ProxyFromEnvironment
	}
	return &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		switch {
		case len(via) > fetchRedirects:
			return fmt.Errorf("it leads on more than %d times", fetchRedirects)
		case r.URL.Scheme != "http" && r.URL.Scheme != "https":
			return fmt.Errorf("it leads to a URL of type %s", api.Shorten(r.URL.Scheme))
		case r.URL.User != nil:
			return errors.New("it leads to a URL with a name in it")
		}
		return nil
	}}
}

// fetch writes what a URL gives to path, trying again where that may help.
func (f fetcher) fetch(ctx context.Context, from, path string, room func(int64) error, progress func(bytes, whole int64)) error {
	var err error
	for try := 1; ; try++ {
		var again bool
		if again, err = f.once(ctx, from, path, room, progress); err == nil || !again || try == fetchTries || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(fetchPause):
		}
	}
	if err == nil || ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	var e *api.Error
	if errors.As(err, &e) && (e.Code == api.CodeForbidden || e.Code == api.CodeTooLarge || e.Code == api.CodeNoSpace) {
		return e
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var name *net.DNSError
	if errors.As(err, &name) {
		err = errors.New("the name " + name.Name + " is not known, or nobody answers who would know it") // which servers we ask is nobody's business
	}
	return &api.Error{Code: api.CodeInvalid, Op: "fetch", Object: from, Err: err, Hint: "see whether the URL is right and the director's machine reaches it, or send the file beside the manifest"}
}

func (f fetcher) once(ctx context.Context, from, path string, room func(int64) error, progress func(bytes, whole int64)) (again bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchWhole, fmt.Errorf("it is not there after %s", fetchWhole))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("User-Agent", "nutshell")
	resp, err := f.client().Do(req)
	if err != nil {
		return true, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests, fmt.Errorf("the server answers %s", resp.Status)
	}
	if resp.ContentLength > f.most {
		return false, f.tooLarge(from)
	}
	if err := room(max(resp.ContentLength, 1<<20)); err != nil {
		return false, err
	}
	out, err := os.OpenFile(path+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return false, err
	}
	n, err := f.copy(out, resp, room, progress)
	if err = errors.Join(err, out.Close()); err != nil {
		return true, err
	}
	switch {
	case n > f.most:
		return false, f.tooLarge(from)
	case n == 0:
		return false, errors.New("it is empty")
	}
	return false, os.Rename(path+".part", path)
}

func (f fetcher) tooLarge(from string) error {
	return &api.Error{Code: api.CodeTooLarge, Op: "fetch", Object: from, Message: fmt.Sprintf("it is larger than %d bytes", f.most), Hint: "an administrator can raise upload.max_bytes"}
}

func (f fetcher) copy(out io.Writer, resp *http.Response, room func(int64) error, progress func(bytes, whole int64)) (int64, error) {
	idle := time.AfterFunc(fetchIdle, func() { _ = resp.Body.Close() })
	defer idle.Stop()
	buf := make([]byte, 256<<10)
	var n, checked int64
	for n <= f.most {
		got, err := resp.Body.Read(buf)
		idle.Reset(fetchIdle)
		if got > 0 {
			if _, e := out.Write(buf[:got]); e != nil {
				return n, e
			}
			n += int64(got)
			progress(n, resp.ContentLength)
		}
		if n-checked > roomEvery {
			checked = n
			if e := room(roomEvery); e != nil {
				return n, e
			}
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("it broke off after %d bytes: %w", n, err)
		}
	}
	return n, nil
}

// fileNameOf is what a version of code is called that came from a URL.
func fileNameOf(from string) string {
	u, err := url.Parse(from)
	if err != nil {
		return "code"
	}
	name := filepath.Base(filepath.Clean("/" + u.Path))
	if name == "/" || name == "." || len(name) > 200 {
		return "code"
	}
	return name
}
