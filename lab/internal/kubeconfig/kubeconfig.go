// Package kubeconfig writes the administrator's kubeconfig as Talos does.
package kubeconfig

import (
	"encoding/base64"
	"fmt"
)

// Admin is a kubeconfig with the names that Talos uses. The certificates are PEM.
func Admin(cluster, server string, ca, cert, key []byte) []byte {
	b64 := base64.StdEncoding.EncodeToString

	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: %[1]s
  cluster:
    server: %[2]s
    certificate-authority-data: %[3]s
contexts:
- name: admin@%[1]s
  context:
    cluster: %[1]s
    namespace: default
    user: admin@%[1]s
current-context: admin@%[1]s
users:
- name: admin@%[1]s
  user:
    client-certificate-data: %[4]s
    client-key-data: %[5]s
`, cluster, server, b64(ca), b64(cert), b64(key))
}
