package bed

import (
	"slices"
	"testing"
)

func TestTheBedKeepsItsOwnFlags(t *testing.T) {
	l := layout{apiserver: 1234, filesDir: "/bed/apiserver"}
	got := l.apiserverArgs(Settings{
		Args: []string{
			"--secure-port=6443", "--client-ca-file=/secrets/ca.crt", "--proxy-client-key-file=/secrets/proxy.key",
			"--authorization-config=/config/authorization.yaml", "--feature-gates=A=true",
		},
		Files: map[string]string{"/config/authorization.yaml": ""},
	})
	for _, want := range []string{"--secure-port=1234", "--authorization-config=/bed/apiserver/config/authorization.yaml", "--feature-gates=A=true"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %v", want, got)
		}
	}
	for _, not := range []string{
		"--secure-port=6443", "--client-ca-file=/secrets/ca.crt", "--proxy-client-key-file=/secrets/proxy.key", "--authorization-mode=RBAC",
	} {
		if slices.Contains(got, not) {
			t.Errorf("%s in %v", not, got)
		}
	}
	if got = l.apiserverArgs(Settings{}); !slices.Contains(got, "--authorization-mode=RBAC") || !slices.Contains(got, "--anonymous-auth=false") {
		t.Errorf("without settings: %v", got)
	}
}
