package talos

import (
	"context"
	"encoding/base64"
	"errors"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/protobuf/types/known/durationpb"
)

// ClientCredentials are a new client certificate with its CA and key: PEM in base64, as in talosconfig files.
type ClientCredentials struct{ CA, Crt, Key string }

// GenerateClientConfig makes a client certificate with the roles, valid for ttl. Only control planes can do this. Role:
// admin.
func (n *Node) GenerateClientConfig(ctx context.Context, roles []string, ttl time.Duration) (ClientCredentials, error) {
	const op = "make a client certificate"

	resp, err := n.machine().GenerateClientConfiguration(ctx, &machine.GenerateClientConfigurationRequest{Roles: roles, CrtTtl: durationpb.New(ttl)})

	m, err := first(n, op, resp.GetMessages(), err)
	if err != nil {
		return ClientCredentials{}, err
	}

	if len(m.GetCa()) == 0 || len(m.GetCrt()) == 0 || len(m.GetKey()) == 0 {
		return ClientCredentials{}, n.fail(op, errors.New("the node sent no complete certificate"))
	}

	encode := base64.StdEncoding.EncodeToString

	return ClientCredentials{CA: encode(m.GetCa()), Crt: encode(m.GetCrt()), Key: encode(m.GetKey())}, nil
}
