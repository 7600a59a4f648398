package kafka

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/outbox"
)

const partitions = 4

func setup(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, *Sink) {
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.SeedTopics(partitions, "events")}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	s, err := New(Config{Brokers: c.ListenAddrs(), Topic: "events"})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return c, s
}

// consume reads n records.
func consume(t *testing.T, c *kfake.Cluster, n int) (records []*kgo.Record) {
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics("events"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for len(records) < n {
		f := client.PollFetches(ctx)
		require.NoError(t, f.Err())
		records = append(records, f.Records()...)
	}
	return records
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

func events(key string, from, n int) (list []outbox.Sent) {
	for i := range n {
		list = append(list, outbox.Sent{ID: uuid.New(), Key: key, N: int64(from + i), Kind: "group.updated", Data: []byte(`{"a": 1}`), At: time.Now()})
	}
	return list
}

func TestRecordsKeepTheOrderOfTheirKey(t *testing.T) {
	c, s := setup(t)
	const keys, each = 10, 50
	for i := range each / 10 {
		for k := range keys {
			require.NoError(t, s.Send(t.Context(), events(fmt.Sprintf("group:%d", k), 1+10*i, 10)))
		}
	}
	last, of := map[string]int{}, map[string]int32{}
	for _, r := range consume(t, c, keys*each) {
		key := string(r.Key)
		last[key]++
		require.Equal(t, fmt.Sprint(last[key]), header(r, "n"))
		require.Equal(t, "group.updated", header(r, "kind"))
		require.NoError(t, uuid.Validate(header(r, "id")))
		require.JSONEq(t, `{"a": 1}`, string(r.Value))
		if p, ok := of[key]; ok {
			require.Equal(t, p, r.Partition, "a key is in one partition")
		}
		of[key] = r.Partition
	}
	require.Len(t, last, keys)
}

// Every other write ends with its connection: the producer repeats it.
func TestAConnectionMayBreak(t *testing.T) {
	c, s := setup(t)
	var lost atomic.Int32
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if lost.Add(1)%2 == 1 {
			return nil, fmt.Errorf("the connection breaks"), true
		}
		return nil, nil, false
	})
	for n := range 5 {
		require.NoError(t, s.Send(t.Context(), events("group:a", 1+n, 1)))
	}
	for i, r := range consume(t, c, 5) {
		require.Equal(t, fmt.Sprint(1+i), header(r, "n"))
	}
	require.GreaterOrEqual(t, lost.Load(), int32(5))
}

// A broker that refuses makes the outbox wait; nothing is lost or overtaken.
func TestTheOutboxWaitsForKafka(t *testing.T) {
	c, s := setup(t)
	var refused atomic.Int32
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if refused.Add(1) > 6 {
			return nil, nil, false
		}
		resp := r.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range r.(*kmsg.ProduceRequest).Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.PolicyViolation.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	d := devdb.Test(t)
	relay := outbox.New(d, outbox.Config{Sinks: []outbox.Sink{s}, Poll: 20 * time.Millisecond})
	require.NoError(t, relay.Start(t.Context()))
	t.Cleanup(relay.Stop)
	const each = 20
	for range each {
		for _, key := range []string{"group:a", "group:b", "user:c"} {
			require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
				return outbox.Append(ctx, tx, outbox.Event{Key: key, Kind: "k", Data: struct{}{}})
			}))
		}
	}
	last := map[string]int{}
	for _, r := range consume(t, c, 3*each) {
		last[string(r.Key)]++
		require.Equal(t, fmt.Sprint(last[string(r.Key)]), header(r, "n"))
	}
	require.Equal(t, map[string]int{"group:a": each, "group:b": each, "user:c": each}, last)
	require.Greater(t, refused.Load(), int32(6))
}

func TestSignIn(t *testing.T) {
	c, err := kfake.NewCluster(kfake.SeedTopics(1, "events"), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "muster", "secret"))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	for password, ok := range map[string]bool{"secret": true, "wrong": false} {
		s, err := New(Config{Brokers: c.ListenAddrs(), Topic: "events", User: "muster", Password: password})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		err = s.Send(ctx, events("group:a", 1, 1))
		cancel()
		require.Equal(t, ok, err == nil, "%v", err)
		s.Close()
	}
}

func TestAMissingCertificateIsSaid(t *testing.T) {
	_, err := New(Config{Brokers: []string{"127.0.0.1:1"}, TLS: true, CAFile: "/nowhere"})
	require.ErrorContains(t, err, "/nowhere")
}
