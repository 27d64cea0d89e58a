package machine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf16"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"

	"github.com/talosmate/talosmate/lab/internal/recording"
)

// File is one entry of a node's file tree.
type File struct {
	Path     string
	Mode     fs.FileMode
	Size     int64
	Modified time.Time
	Link     string
	UID, GID uint32
	// content reads the file; nil for one whose bytes were not recorded (zeroes).
	content func() []byte
	// generated marks a file whose bytes are generated when they are read.
	generated bool
	// Unreadable marks a file that is listed and cannot be opened, as one that was just rotated.
	Unreadable bool
}

// FileTree is the data behind Read, Copy, List and DiskUsage.
type FileTree struct {
	node  *Node
	once  sync.Once
	mu    sync.Mutex
	files map[string]*File
}

func newFileTree(n *Node) *FileTree { return &FileTree{node: n} }

// Files is the node's file tree.
func (n *Node) Files() *FileTree { return n.files }

// load fills the tree from the recorded listings and with the files of the kernel.
func (t *FileTree) load() {
	t.once.Do(func() {
		t.files = map[string]*File{}

		boot := t.node.BootTime()
		for _, dir := range []string{
			"/", "/dev", "/etc", "/opt", "/proc", "/run", "/sys", "/system", "/tmp", "/usr", "/usr/lib", "/var", "/var/lib",
			"/var/lib/containerd", "/var/lib/etcd", "/var/lib/etcd/member", "/var/lib/etcd/member/snap", "/var/lib/kubelet", "/var/log", "/var/log/audit",
			"/var/log/containers", "/var/log/pods", "/var/run", "/var/mnt", "/proc/sys", "/proc/sys/kernel", "/proc/sys/kernel/random",
		} {
			t.files[dir] = &File{Path: dir, Mode: fs.ModeDir | 0o755, Size: 4096, Modified: boot}
		}

		for _, name := range []string{"MachineService.List.etc", "MachineService.List.system-recurse"} {
			infos, err := recording.Stream(t.node.Recording, name, func() *machineapi.FileInfo { return &machineapi.FileInfo{} })
			if err != nil {
				continue
			}

			for _, info := range infos {
				t.files[info.Name] = &File{
					Path: info.Name, Mode: fs.FileMode(info.Mode), Size: info.Size, Modified: time.Unix(info.Modified, 0),
					Link: info.Link, UID: info.Uid, GID: info.Gid,
				}
			}
		}

		t.dynamic()
		t.varFiles(boot)
	})
}

// dynamic adds files whose content follows the node's state.
func (t *FileTree) dynamic() {
	n := t.node

	add := func(name string, mode fs.FileMode, content func() string) {
		t.files[name] = &File{Path: name, Mode: mode, Modified: n.BootTime(), content: func() []byte { return []byte(content()) }}
	}

	add("/proc/sys/kernel/random/boot_id", 0o444, func() string { return n.BootID() + "\n" })
	add("/proc/uptime", 0o444, func() string {
		up := time.Since(n.BootTime()).Seconds()

		return fmt.Sprintf("%.2f %.2f\n", up, up*1.9)
	})
	add("/proc/version", 0o444, func() string {
		return "Linux version 6.18.9-talos (@buildkitsandbox) (gcc (GCC) 15.2.0, GNU ld (GNU Binutils) 2.45) #1 SMP Thu Nov 19 12:00:00 UTC 2026\n"
	})
	add("/proc/cmdline", 0o444, func() string {
		return n.kernelCmdline() + "\n"
	})
	t.bootFiles(add)
	add("/etc/os-release", 0o644, func() string {
		v := n.Version()

		return fmt.Sprintf("NAME=\"Talos\"\nID=talos\nVERSION_ID=%s\nPRETTY_NAME=\"Talos (%s)\"\nHOME_URL=\"https://www.talos.dev/\"\nBUG_REPORT_URL=\"https://github.com/siderolabs/talos/issues\"\nVENDOR_NAME=\"Sidero Labs\"\nVENDOR_URL=\"https://www.siderolabs.com/\"\n", v, v)
	})
	add("/etc/hostname", 0o644, func() string { return n.Name + "\n" })
	add("/etc/hosts", 0o644, func() string {
		return fmt.Sprintf("127.0.0.1       localhost\n%s        %s\n::1             localhost ip6-localhost ip6-loopback\nff02::1         ip6-allnodes\nff02::2         ip6-allrouters\n", n.Address, n.Name)
	})
	add("/etc/resolv.conf", 0o644, func() string { return "nameserver 127.0.0.53\n" })
}

// bootFiles adds what the kernel and, with systemd-boot, the EFI variables show of how the boot came up.
func (t *FileTree) bootFiles(add func(name string, mode fs.FileMode, content func() string)) {
	n := t.node
	booted := func() (kexec, uki bool, selected, next string) {
		n.mu.Lock()
		defer n.mu.Unlock()

		return n.kexec, n.bootsUKI(), n.selected, entryOf(n.slots[n.defaultSlot])
	}

	add("/proc/sys/kernel/bootloader_type", 0o444, func() string {
		switch kexec, uki, _, _ := booted(); {
		case kexec:
			return "208\n" // kexec_file_load
		case uki:
			return "33\n" // the kernel's EFI stub
		default:
			return "114\n" // GRUB 2
		}
	})

	for name, value := range map[string]func() string{
		"LoaderEntryDefault":  func() string { _, _, _, next := booted(); return next },
		"LoaderEntrySelected": func() string { _, _, selected, _ := booted(); return selected },
		"LoaderEntryOneShot": func() string {
			if kexec, _, _, _ := booted(); kexec {
				return "kexec reboot"
			}

			return ""
		},
	} {
		file := "/sys/firmware/efi/efivars/" + name + "-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
		add(file, 0o644, nil)
		t.files[file].content = func() []byte {
			_, uki, _, _ := booted()
			if text := value(); uki && text != "" {
				return efiVariable(text)
			}

			return nil
		}
	}
}

// efiVariable is the file of a variable: its attributes, and UTF-16 with a zero at the end.
func efiVariable(text string) []byte {
	out := []byte{7, 0, 0, 0}
	for _, u := range utf16.Encode([]rune(text + "\x00")) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}

	return out
}

// varFiles adds a few files of the ephemeral partition.
func (t *FileTree) varFiles(boot time.Time) {
	for name, size := range map[string]int64{
		"/var/lib/containerd/io.containerd.metadata.v1.bolt": 0,
		"/var/lib/kubelet/cpu_manager_state":                 52,
		"/var/lib/kubelet/memory_manager_state":              61,
		"/var/log/audit/audit.log":                           20480,
	} {
		t.files[name] = &File{Path: name, Mode: 0o600, Size: size, Modified: boot, generated: true}
		if size == 0 {
			t.files[name].Mode = fs.ModeDir | 0o711
			t.files[name].Size = 4096
		}
	}

	t.files["/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db"] = &File{
		Path: "/var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db", Mode: 0o644, Size: 2 << 20, Modified: boot, generated: true,
	}
}

// Put adds a file with content, and the directories above it.
func (t *FileTree) Put(name string, content []byte) {
	t.load()
	t.mu.Lock()
	defer t.mu.Unlock()

	t.parents(name)
	t.files[name] = &File{Path: name, Mode: 0o644, Size: int64(len(content)), Modified: time.Now(), content: func() []byte { return content }}
}

// Generate adds a file of any size whose bytes need no memory.
func (t *FileTree) Generate(name string, size int64) {
	t.load()
	t.mu.Lock()
	defer t.mu.Unlock()

	t.parents(name)
	t.files[name] = &File{Path: name, Mode: 0o644, Size: size, Modified: time.Now(), generated: true}
}

// Break adds a file that is listed and cannot be opened.
func (t *FileTree) Break(name string) {
	t.load()
	t.mu.Lock()
	defer t.mu.Unlock()

	t.parents(name)
	t.files[name] = &File{Path: name, Mode: 0o644, Modified: time.Now(), Unreadable: true}
}

func (t *FileTree) parents(name string) {
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if t.files[dir] == nil {
			t.files[dir] = &File{Path: dir, Mode: fs.ModeDir | 0o755, Size: 4096, Modified: time.Now()}
		}

		if dir == "/" {
			return
		}
	}
}

// Wipe removes what is below a directory, as wiping a partition does.
func (t *FileTree) Wipe(dir string) {
	t.load()
	t.mu.Lock()
	defer t.mu.Unlock()

	for name := range t.files {
		if strings.HasPrefix(name, dir+"/") {
			delete(t.files, name)
		}
	}

	if dir == "/var" {
		t.varFiles(time.Now())
	}
}

// Lookup finds a file, following a symbolic link if requested.
func (t *FileTree) Lookup(name string, follow bool) (File, error) {
	t.load()
	t.mu.Lock()
	defer t.mu.Unlock()

	name = path.Clean(name)

	for range 8 {
		f := t.files[name]
		if f == nil || (f.content != nil && strings.HasPrefix(name, "/sys/") && f.content() == nil) {
			return File{}, fs.ErrNotExist
		}

		if !follow || f.Mode&fs.ModeSymlink == 0 || f.Link == "" {
			return t.sized(f), nil
		}

		name = f.Link
		if !path.IsAbs(name) {
			name = path.Join(path.Dir(f.Path), name)
		}
	}

	return File{}, fs.ErrInvalid
}

// sized returns a copy whose size is that of its content; files in /proc have size zero, as real ones do.
func (t *FileTree) sized(f *File) File {
	out := *f
	if f.content != nil && !strings.HasPrefix(f.Path, "/proc/") {
		out.Size = int64(len(f.content()))
	}

	return out
}

// Walk lists a file and, for a directory, everything below it down to depth (negative for all), in the order of Talos:
// by name, depth first.
func (t *FileTree) Walk(root string, depth int) ([]File, error) {
	top, err := t.Lookup(root, false)
	if err != nil {
		return nil, err
	}

	t.mu.Lock()
	defer t.mu.Unlock()

	out := []File{top}
	if !top.Mode.IsDir() {
		return out, nil
	}

	prefix := strings.TrimSuffix(top.Path, "/") + "/"

	var names []string

	for name := range t.files {
		if name != "/" && strings.HasPrefix(name, prefix) {
			if depth < 0 || strings.Count(name[len(prefix):], "/") < depth {
				names = append(names, name)
			}
		}
	}

	// compare component by component, so that a directory comes right before its content
	slices.SortFunc(names, func(a, b string) int { return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")) })

	for _, name := range names {
		out = append(out, t.sized(t.files[name]))
	}

	return out, nil
}

// Open reads a file's bytes.
func (f File) Open() io.Reader {
	if f.content != nil {
		return bytes.NewReader(f.content())
	}

	if f.generated {
		return io.LimitReader(&generatedBytes{}, f.Size)
	}

	return io.LimitReader(zeroes{}, f.Size)
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)

	return len(p), nil
}

// generatedBytes is an endless repetition of the generated log lines.
type generatedBytes struct{ off int64 }

func (g *generatedBytes) Read(p []byte) (int, error) {
	n := 0

	for n < len(p) {
		line := syntheticText(g.off / syntheticLine)
		c := copy(p[n:], line[g.off%syntheticLine:])
		n += c
		g.off += int64(c)
	}

	return n, nil
}
