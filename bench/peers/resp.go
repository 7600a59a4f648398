package peers

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/mustermesh/muster/geo"
)

// key is where a server of the Redis protocol keeps the points of a benchmark.
const key = "muster-bench"

// resp is a connection to a server that speaks Redis' protocol (RESP 2): a
// request is a command, or a pipeline of them.
type resp struct {
	name    string
	client  *redis.Client
	conn    *redis.Conn // of its own
	move    func(Move) []any
	near    func(at geo.Point, radius float64, limit int) []any
	answers func(any) ([]any, bool) // the names in an answer to near
}

// open connects.
func (r resp) open(ctx context.Context, address string) (Points, error) {
	r.client = redis.NewClient(&redis.Options{
		Addr: address, Protocol: 2, DisableIdentity: true, PoolSize: 1, MaxRetries: -1,
	})
	r.conn = r.client.Conn()
	if err := r.conn.Ping(ctx).Err(); err != nil {
		r.Close()
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	return &r, nil
}

func (r *resp) Move(ctx context.Context, moves []Move) error {
	var err error
	if len(moves) == 1 {
		err = r.conn.Do(ctx, r.move(moves[0])...).Err()
	} else {
		_, err = r.conn.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, m := range moves {
				p.Do(ctx, r.move(m)...)
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	return nil
}

func (r *resp) Near(ctx context.Context, at geo.Point, radius float64, limit int) ([]string, error) {
	got, err := r.conn.Do(ctx, r.near(at, radius, limit)...).Result()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	list, ok := r.answers(got)
	names := make([]string, len(list))
	for i := range list {
		var is bool
		names[i], is = list[i].(string)
		ok = ok && is
	}
	if !ok {
		return nil, fmt.Errorf("%s: answers %.100v", r.name, got)
	}
	return names, nil
}

func (r *resp) Close() {
	_ = r.conn.Close()
	_ = r.client.Close()
}

// drop forgets all points of benchmarks.
func (r resp) drop(ctx context.Context, address, command string) error {
	c, err := r.open(ctx, address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.(*resp).conn.Do(ctx, command, key).Err(); err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	return nil
}
