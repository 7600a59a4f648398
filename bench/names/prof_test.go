package names

import (
	"context"
	"testing"
	"time"
)

func TestProf(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	addr := free()
	go func() { _ = Serve(ctx, addr) }()
	time.Sleep(time.Second)
	l, _ := newLoad(addr, 8)
	c, err := l.run(ctx, 5*time.Second, 0, 64)
	t.Log(c.answers, err)
}
