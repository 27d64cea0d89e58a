package errs

// Code is a process exit code. The numbers are an interface: scripts match on them.
type Code int

// The exit codes, one table for every command and every output format.
const (
	OK          Code = 0
	Failed      Code = 1
	Usage       Code = 2
	Negative    Code = 3
	Partial     Code = 4
	Refused     Code = 5
	Unreachable Code = 6
	Unknown     Code = 7
	RolledBack  Code = 8
	Lost        Code = 9
	Timeout     Code = 124
	Interrupted Code = 130
)

// CodeInfo describes one exit code for `talosmate help exit-codes`.
type CodeInfo struct {
	Code    Code   `json:"code"`    // The number the process exits with.
	Name    string `json:"name"`    // A stable word for it.
	Meaning string `json:"meaning"` // What happened, in one sentence.
}

// Codes lists every exit code in numeric order.
func Codes() []CodeInfo {
	return []CodeInfo{
		{OK, "ok", "done, and for a question: the answer is yes"},
		{Failed, "failed", "the operation failed; the document says where"},
		{Usage, "usage", "bad flag, argument, config file or input file; nothing was sent"},
		{Negative, "negative", "it ran and the answer is no: unhealthy, drift found, assertion false"},
		{Partial, "partial", "some nodes succeeded, some failed; items and errors say which"},
		{Refused, "refused", "a safety gate refused; nothing was changed"},
		{Unreachable, "unreachable", "no target could be reached or authenticated"},
		{Unknown, "unknown", "a change was sent, and its outcome could not be read back"},
		{RolledBack, "rolled-back", "the node is back on its previous version or configuration"},
		{Lost, "lost", "a change was carried out and a node did not come back, or did not reach its state, within the deadline"},
		{Timeout, "timeout", "the deadline of a read or a wait passed, or passed before a change was sent"},
		{Interrupted, "interrupted", "SIGINT, SIGTERM or SIGHUP; what was undone and what was left is on stderr"},
	}
}

// Name is the stable word of the code, "failed" for numbers outside the table.
func (c Code) Name() string {
	for _, info := range Codes() {
		if info.Code == c {
			return info.Name
		}
	}

	return "failed"
}
