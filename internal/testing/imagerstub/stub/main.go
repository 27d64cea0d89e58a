// Command stub is a stub of the Talos imager: it takes the same arguments, reports what it was given, and writes files
// of known content. Kernel arguments that begin with stub. change its behaviour.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/testing/imagerstub/seen"
)

type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

type arguments struct {
	profile, arch, kind string
	document            string
	knobs               map[string]string
	signers             []string
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)

		var code exitCode
		if errors.As(err, &code) {
			os.Exit(int(code))
		}

		os.Exit(1)
	}
}

type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("failed as told with %d", int(c)) }

// parse accepts exactly what the imager of Talos 1.14 accepts.
func parse(args []string) (arguments, error) {
	a := arguments{knobs: map[string]string{}}
	if len(args) == 0 {
		return a, errors.New("no profile")
	}

	a.profile = args[0]
	if a.profile == "-" {
		return fromDocument(a, args[1:])
	}

	var (
		kernel, many list
		one          string
		signers      [2]string
		yes          bool
	)

	flags := flag.NewFlagSet("imager", flag.ContinueOnError)
	flags.StringVar(&a.arch, "arch", "", "")
	flags.StringVar(&a.kind, "output-kind", "", "")
	flags.Var(&kernel, "extra-kernel-arg", "")

	for _, name := range []string{"meta", "system-extension-image", "overlay-option"} {
		flags.Var(&many, name, "")
	}

	for _, name := range []string{
		"platform", "base-installer-image", "image-cache", "overlay-name", "overlay-image", "embedded-config-path", "secureboot-enroll-keys",
	} {
		flags.StringVar(&one, name, "", "")
	}

	flags.StringVar(&signers[0], "secureboot-signer-address", "", "")
	flags.StringVar(&signers[1], "pcr-signer-address", "", "")
	flags.BoolVar(&yes, "insecure", false, "")
	flags.BoolVar(&yes, "secureboot-include-well-known-certs", false, "")

	if err := flags.Parse(args[1:]); err != nil {
		return a, err
	}

	a.signers = signers[:]
	a.turn(kernel)

	return a, nil
}

// fromDocument reads the profile on stdin. The imager takes no flags with it.
func fromDocument(a arguments, rest []string) (arguments, error) {
	if len(rest) > 0 {
		return a, fmt.Errorf("flags beside a profile document: %v", rest)
	}

	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		return a, err
	}

	var doc struct {
		Base          string `yaml:"baseProfileName"`
		Arch          string `yaml:"arch"`
		Customization struct {
			KernelArgs []string `yaml:"extraKernelArgs"`
		} `yaml:"customization"`
		Input struct {
			SecureBoot struct {
				Signer struct {
					Address string `yaml:"signerAddress"`
				} `yaml:"secureBootSigner"`
			} `yaml:"secureboot"`
		} `yaml:"input"`
		Output struct {
			Kind string `yaml:"kind"`
		} `yaml:"output"`
	}

	if err = yaml.Unmarshal(body, &doc); err != nil {
		return a, err
	}

	a.document, a.arch, a.profile = string(body), doc.Arch, doc.Output.Kind
	if doc.Base != "" {
		a.profile = doc.Base
	}

	a.signers = []string{doc.Input.SecureBoot.Signer.Address}
	a.turn(doc.Customization.KernelArgs)

	return a, nil
}

// turn applies the kernel arguments that change the stub's behaviour.
func (a arguments) turn(kernel []string) {
	for _, k := range kernel {
		if name, ok := strings.CutPrefix(k, "stub."); ok {
			key, value, _ := strings.Cut(name, "=")
			a.knobs[key] = value
		}
	}
}

// ask reads one line from the listener on each signer's socket.
func ask(addresses []string) (map[string]string, error) {
	said := map[string]string{}

	for _, address := range addresses {
		path, ok := strings.CutPrefix(address, "unix://")
		if !ok {
			continue
		}

		conn, err := net.Dial("unix", path) //nolint:noctx // bounded by the container that it runs in
		if err != nil {
			return nil, err
		}

		body, err := io.ReadAll(conn)
		if err != nil {
			return nil, err
		}

		said[address] = string(body)
		_ = conn.Close() // it was only read
	}

	return said, nil
}

func run(args []string) error {
	a, err := parse(args)
	if err != nil {
		return err
	}

	report, err := look(args)
	if err != nil {
		return err
	}

	report.Document = a.document

	if report.Signers, err = ask(a.signers); err != nil {
		return err
	}

	text, err := json.Marshal(report)
	if err != nil {
		return err
	}

	fmt.Println("assembling the finalized profile...")
	fmt.Println(seen.Prefix + string(text))

	if _, ok := a.knobs["deaf"]; ok {
		signal.Ignore(os.Interrupt)
	}

	path := filepath.Join("/out", product(a))

	return write(path, a, args)
}

func product(a arguments) string {
	switch {
	case strings.HasSuffix(a.profile, "installer"):
		return "installer-" + a.arch + ".tar"
	case a.profile == "iso":
		return "metal-" + a.arch + ".iso"
	default:
		return a.profile + "-" + a.arch + ".raw.zst"
	}
}

func write(path string, a arguments, args []string) error {
	if strings.HasSuffix(path, ".tar") {
		return copyFile("/installer.tar", path)
	}

	f, err := os.Create(path)
	if err != nil {
		return err
	}

	// Like the imager's, the content depends on the clock unless a fixed time is given.
	stamp := os.Getenv("SOURCE_DATE_EPOCH")
	if os.Getenv("DETERMINISTIC_SEED") == "" {
		stamp = time.Now().String()
	}

	fmt.Fprintf(f, "%s\n%s%s\n", strings.Join(args, " "), a.document, stamp)

	if wait, ok := a.knobs["sleep"]; ok {
		d, err := time.ParseDuration(wait)
		if err != nil {
			return err
		}

		fmt.Println("creating disk image...")
		<-time.After(d)
	}

	if _, ok := a.knobs["fill"]; ok {
		return fill(f)
	}

	if err = f.Close(); err != nil {
		return err
	}

	return misbehave(path, a)
}

func fill(f *os.File) error {
	chunk := make([]byte, 64<<10)

	for {
		if _, err := f.Write(chunk); err != nil {
			return err
		}
	}
}

func misbehave(path string, a arguments) error {
	if code, ok := a.knobs["fail"]; ok {
		n, err := strconv.Atoi(code)
		if err != nil {
			return err
		}

		return exitCode(n)
	}

	if _, ok := a.knobs["nothing"]; ok {
		return os.Remove(path)
	}

	if _, ok := a.knobs["link"]; ok {
		return os.Symlink("/etc/passwd", "/out/link")
	}

	if owner, ok := a.knobs["owner"]; ok {
		id, err := strconv.Atoi(owner)
		if err != nil {
			return err
		}

		return errors.Join(os.Chmod(path, 0o600), os.Chown(path, id, id))
	}

	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}

	defer in.Close()

	out, err := os.Create(to)
	if err != nil {
		return err
	}

	_, err = io.Copy(out, in)

	return errors.Join(err, out.Close())
}

// look reports the properties of the container.
func look(args []string) (seen.Report, error) {
	r := seen.Report{Args: args, UID: os.Getuid(), GID: os.Getgid(), Files: map[string]string{}}

	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return r, err
	}

	for line := range strings.Lines(string(status)) {
		if caps, ok := strings.CutPrefix(line, "CapEff:"); ok {
			if r.Capabilities, err = strconv.ParseUint(strings.TrimSpace(caps), 16, 64); err != nil {
				return r, err
			}
		}
	}

	_, err = os.Stat("/dev/kmsg") // it is one of the host's devices and never exists in a container
	r.HostDevices = err == nil

	for _, key := range []string{"SOURCE_DATE_EPOCH", "DETERMINISTIC_SEED", "DOCKER_CONFIG"} {
		if v, ok := os.LookupEnv(key); ok {
			r.Env = append(r.Env, key+"="+v)
		}
	}

	for _, path := range []string{
		"/secureboot/uki-signing-cert.pem", "/embedded-config.yaml", "/image-cache/index.json", "/registry-auth/config.json", "/overlay-options/0",
	} {
		if body, err := os.ReadFile(path); err == nil {
			r.Files[path] = fmt.Sprintf("%x", sha256.Sum256(body))

			if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
				r.Writable = append(r.Writable, path)
				_ = f.Close() // nothing was written
			}
		}
	}

	return r, nil
}
