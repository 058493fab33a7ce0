package servicetest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nutshell/services"
)

// toolsReady tells a World that this test program can be its own tools.
const toolsReady = "NUTSHELL_SERVICETEST_TOOLS"

const toolArgument = "--servicetest-tool"

// Main is the TestMain of packages whose kinds have tools: it runs the tests,
// or a tool where a World has started this program as one.
func Main(m *testing.M, kinds ...services.Kind) {
	if len(os.Args) > 3 && os.Args[1] == toolArgument {
		if err := runTool(os.Args[2], os.Args[3], os.Args[4:], kinds); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := os.Setenv(toolsReady, "yes"); err != nil {
		panic(err) // only for names that are not names
	}
	os.Exit(m.Run())
}

// toolCommand is how a World starts a tool.
func (w *World) toolCommand() ([]string, error) {
	if os.Getenv(toolsReady) == "" {
		return nil, errors.New("a test of a kind with tools needs: func TestMain(m *testing.M) { servicetest.Main(m, kinds…) }")
	}
	self, err := os.Executable()
	return []string{self, toolArgument, filepath.Join(w.dir, "tool.pem")}, err
}

func runTool(identity, name string, args []string, kinds []services.Kind) error {
	cert, err := tls.LoadX509KeyPair(identity, identity)
	if err != nil {
		return err
	}
	same := func(s tls.ConnectionState) error { // all instances of a World have one certificate
		if len(s.PeerCertificates) == 0 || !bytes.Equal(s.PeerCertificates[0].Raw, cert.Certificate[0]) {
			return errors.New("not of this service")
		}
		return nil
	}
	protocols := []string{"h2", "http/1.1"}
	host := services.ToolHost{Args: args, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Files:  func(n int) *os.File { return os.NewFile(uintptr(3+n), "socket") },
		Server: &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert, VerifyConnection: same, NextProtos: protocols},
		Client: &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, VerifyConnection: same, NextProtos: protocols}} //nolint:gosec // same verifies
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	kind, tool, _ := strings.Cut(name, "/")
	for _, k := range kinds {
		if k.Name == kind && k.Tools[tool] != nil {
			return k.Tools[tool](ctx, host)
		}
	}
	return fmt.Errorf("there is no tool %s", name)
}

// writeIdentity makes the certificate of all instances of a World.
func writeIdentity(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	b := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return os.WriteFile(path, b, 0o600)
}
