package kubebed

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/lab/internal/kubeconfig"
)

// api is the part of the Kubernetes API that Talos itself uses.
type api struct {
	server           string
	ca, cert, key    []byte
	client           *http.Client
	evictionRetry    time.Duration
	requestsDeadline time.Duration
}

// kubeconfigFile is the part of a kubeconfig that is read here.
type kubeconfigFile struct {
	Clusters []struct {
		Cluster struct {
			Server string `yaml:"server"`
			CAData string `yaml:"certificate-authority-data"`
			CAFile string `yaml:"certificate-authority"`
		} `yaml:"cluster"`
	} `yaml:"clusters"`
	Users []struct {
		User struct {
			CertData string `yaml:"client-certificate-data"`
			CertFile string `yaml:"client-certificate"`
			KeyData  string `yaml:"client-key-data"`
			KeyFile  string `yaml:"client-key"`
		} `yaml:"user"`
	} `yaml:"users"`
}

func newAPI(path string) (*api, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}

	var file kubeconfigFile
	if err := yaml.Unmarshal(raw, &file); err != nil {
		return nil, err
	}

	if len(file.Clusters) == 0 || len(file.Users) == 0 {
		return nil, fmt.Errorf("%s names no cluster or no user", path)
	}

	c, u := file.Clusters[0].Cluster, file.Users[0].User
	a := &api{server: c.Server, evictionRetry: 500 * time.Millisecond, requestsDeadline: 10 * time.Second}

	for _, part := range []struct {
		to         *[]byte
		data, file string
	}{{&a.ca, c.CAData, c.CAFile}, {&a.cert, u.CertData, u.CertFile}, {&a.key, u.KeyData, u.KeyFile}} {
		if part.data != "" {
			*part.to, err = base64.StdEncoding.DecodeString(part.data)
		} else {
			*part.to, err = os.ReadFile(part.file)
		}

		if err != nil {
			return nil, err
		}
	}

	pair, err := tls.X509KeyPair(a.cert, a.key)
	if err != nil {
		return nil, err
	}

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.ca)

	a.client = &http.Client{Timeout: a.requestsDeadline, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: pool, MinVersion: tls.VersionTLS12,
	}}}

	return a, nil
}

// kubeconfig is the administrator's, with the names that Talos uses.
func (a *api) kubeconfig(cluster string) []byte {
	return kubeconfig.Admin(cluster, a.server, a.ca, a.cert, a.key)
}

// statusError is an unsuccessful answer of the API server.
type statusError struct {
	code int
	text string
}

func (e statusError) Error() string {
	return fmt.Sprintf("Kubernetes answers %d: %s", e.code, e.text)
}

// do sends a request and decodes the answer into out, unless it is nil.
func (a *api) do(ctx context.Context, method, path, contentType string, body, out any) error {
	var reader io.Reader

	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}

		reader = bytes.NewReader(raw)
	}

	req, err := http.NewRequestWithContext(ctx, method, a.server+path, reader)
	if err != nil {
		return err
	}

	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}

	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck

	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}

	if resp.StatusCode >= 300 {
		return statusError{code: resp.StatusCode, text: string(raw)}
	}

	if out == nil {
		return nil
	}

	return json.Unmarshal(raw, out)
}
