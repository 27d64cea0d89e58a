package conn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/siderolabs/go-api-signature/pkg/client/auth"
	"github.com/siderolabs/go-api-signature/pkg/client/interceptor"
	"github.com/siderolabs/go-api-signature/pkg/message"
	pgp "github.com/siderolabs/go-api-signature/pkg/pgp/client"
	"github.com/siderolabs/go-api-signature/pkg/serviceaccount"
	"google.golang.org/grpc"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
)

// Environment variables with the key of an Omni service account, as talosctl reads them.
const (
	EnvSideroServiceAccount = serviceaccount.SideroServiceAccountKeyEnvVar
	EnvOmniServiceAccount   = serviceaccount.OmniServiceAccountKeyEnvVar
)

// Omni is how requests to a cluster behind Omni are signed.
type Omni struct {
	ServiceAccount string // The service account's key in base64; empty for the user's own key.
	KeysDir        string // The directory of the users' keys, beside the one in $XDG_DATA_HOME.
	// Login shows a person the page on which a new key is confirmed; nil where nobody can.
	Login func(url string)
}

// loginLimit is how long a person may take to confirm a key in the browser.
const loginLimit = 5 * time.Minute

// omni reports whether the requests go to Omni, which has the only way to the nodes.
func (p *Pool) omni() bool { return p.Context != nil && p.Context.Omni != "" && !p.Options.Insecure }

// SignIn prepares the signatures of a cluster behind Omni; it does nothing for others. Without a key it may ask a person
// to confirm a new one.
func (p *Pool) SignIn(ctx context.Context) error {
	if !p.omni() {
		return nil
	}

	signed, err := p.newSigner(ctx)
	p.signed = signed

	return err
}

// signing are the options of a connection whose requests are signed.
func (p *Pool) signing() []grpc.DialOption {
	if p.signed == nil {
		return nil
	}

	return []grpc.DialOption{grpc.WithUnaryInterceptor(p.signed.Unary()), grpc.WithStreamInterceptor(p.signed.Stream())}
}

func (p *Pool) newSigner(ctx context.Context) (*interceptor.Interceptor, error) {
	o := p.Options.Omni
	options := interceptor.Options{
		InfoWriter: io.Discard, ContextName: p.Context.Name, Identity: p.Context.Omni, ClientName: "talosmate",
		ServiceAccountBase64: o.ServiceAccount, RenewUserKeyFunc: p.renew,
		UserKeyProvider: pgp.NewKeyProviderWithFallback("talos/keys", o.KeysDir, "keys", true),
	}

	if o.ServiceAccount != "" {
		if _, err := serviceaccount.Decode(o.ServiceAccount); err != nil {
			return nil, errs.Usagef("cannot use the Omni service account's key: %w", err).WithHint("$%s holds it in base64", EnvOmniServiceAccount)
		}

		return interceptor.New(options), nil
	}

	// Both name the key's file, and a talosconfig of the project may be somebody else's.
	for _, name := range []string{p.Context.Name, p.Context.Omni} {
		if _, err := fsutil.Element(name); err != nil {
			return nil, errs.Usagef("cannot use the context with Omni: %w", err)
		}
	}

	if _, err := options.UserKeyProvider.ReadValidKey(p.Context.Name, p.Context.Omni); err != nil {
		if o.Login == nil {
			return nil, p.noKey(err)
		}

		if err = p.signIn(ctx, &options); err != nil {
			return nil, err
		}
	}

	return interceptor.New(options), nil
}

// signIn makes a key over a connection of its own, before requests with their deadlines need it.
func (p *Pool) signIn(ctx context.Context, o *interceptor.Options) error {
	if len(p.Options.Endpoints) == 0 {
		return noEndpoints()
	}

	w, err := p.dialWith(p.Options.Endpoints[0], nil)
	if err != nil {
		return err
	}

	_, err = p.renew(ctx, w.cc, o)

	return errors.Join(err, w.cc.Close())
}

func (p *Pool) noKey(err error) error {
	return errs.New(errs.Unreachable, "cannot sign requests as %s in context %q: %w", p.Context.Omni, p.Context.Name, err).
		WithKind(errs.KindUnauthenticated).
		WithHint("set $%s, or run a read at a terminal once to confirm a key in the browser", EnvOmniServiceAccount)
}

// renew makes a new key and waits until the user has confirmed it in a browser, as talosctl does; at most one at a time,
// and for longer than one call may take.
func (p *Pool) renew(call context.Context, cc *grpc.ClientConn, o *interceptor.Options) (message.Signer, error) {
	p.login.Lock()
	defer p.login.Unlock()

	if p.Options.Omni.Login == nil {
		return nil, p.noKey(errs.New(errs.Unreachable, "Omni does not accept the key"))
	}

	// A call's deadline is too short for a person; its interruption counts.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(call), loginLimit)
	defer cancel()

	defer context.AfterFunc(call, func() {
		if errors.Is(call.Err(), context.Canceled) {
			cancel()
		}
	})()

	key, err := o.UserKeyProvider.GenerateKey(o.ContextName, o.Identity, o.ClientName)
	if err != nil {
		return nil, fmt.Errorf("cannot make a key: %w", err)
	}

	public, err := key.ArmorPublic()
	if err != nil {
		return nil, fmt.Errorf("cannot encode the key: %w", err)
	}

	client := auth.NewClient(cc)

	page, err := client.RegisterPGPPublicKey(ctx, o.Identity, []byte(public))
	if err != nil {
		return nil, fmt.Errorf("cannot register the key: %w", err)
	}

	// The page comes from the endpoint, and is opened by a browser.
	if u, err := url.Parse(page); err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, errs.New(errs.Unreachable, "the login page %q is not an https address", page).WithKind(errs.KindUntrusted)
	}

	p.Options.Omni.Login(page)

	if err = client.AwaitPublicKeyConfirmation(ctx, key.Fingerprint()); err != nil {
		return nil, fmt.Errorf("cannot see the key confirmed: %w", err)
	}

	if _, err = o.UserKeyProvider.WriteKey(key); err != nil {
		return nil, fmt.Errorf("cannot keep the key: %w", err)
	}

	return key, nil
}
