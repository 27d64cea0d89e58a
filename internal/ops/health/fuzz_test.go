package health

import "testing"

// FuzzServerMessage holds that whatever the health service says, each finding has an ID of its own and a known status.
func FuzzServerMessage(f *testing.F) {
	for _, text := range []string{
		"", "waiting for etcd to be healthy: ...", "waiting for etcd to be healthy: OK", "waiting for a: ERROR b\nc", "waiting for : x", "waiting for \x1b[2J: ...", "discovered nodes: []", "waiting for É: OK",
	} {
		f.Add(text, "waiting for etcd to be healthy: OK")
	}

	f.Fuzz(func(t *testing.T, first, second string) {
		p := serverLog{at: map[string]int{}}
		for _, text := range []string{first, second, first} {
			p.message(text)
		}

		seen := map[string]bool{}
		for _, one := range p.findings {
			if seen[one.ID] || one.Status != OK && one.Status != Fail && one.Status != Unknown {
				t.Fatalf("%q and %q: %+v", first, second, p.findings)
			}

			seen[one.ID] = true
		}
	})
}
