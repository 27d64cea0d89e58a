package cluster_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestHungNodeThroughAnEndpoint(t *testing.T) {
	for name, connected := range map[string]bool{"connected before": true, "not connected": false} {
		t.Run(name, func(t *testing.T) {
			b := start(t, small)
			c := b.client("")

			if connected {
				if _, err := c.Version(b.on("worker-1")); err != nil {
					t.Fatal(err)
				}
			}

			b.node("worker-1").API.Hang(true)

			for range 3 {
				ctx, cancel := context.WithTimeout(b.on("worker-1"), 200*time.Millisecond)

				if _, err := c.Version(ctx); status.Code(err) != codes.DeadlineExceeded {
					t.Errorf("the endpoint answers for the node: %v", err)
				}

				cancel()
			}

			b.node("worker-1").API.Hang(false)

			if _, err := c.Version(b.on("worker-1")); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestANodeThatIsBackRefusesEndpointsForAWhile(t *testing.T) {
	b := start(t, func(o *testOptions) { small(o); o.APIDLag = time.Hour })

	if _, err := b.client("").Version(b.on("worker-1")); err != nil {
		t.Fatalf("before the reboot: %v", err)
	}

	before := b.node("worker-1").BootID()
	if err := b.direct("worker-1").Reboot(b.ctx); err != nil {
		t.Fatal(err)
	}

	b.rebooted("worker-1", before)

	if _, err := b.direct("worker-1").Version(b.ctx); err != nil {
		t.Errorf("directly: %v", err)
	}

	_, err := b.client("").Version(b.on("worker-1"))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "connect: connection refused") {
		t.Errorf("through an endpoint: %v", err)
	}
}
