// Package kafka is a sink of the outbox that writes events to a Kafka topic, for
// whoever wants to hear of everything without asking.
//
// A record's key is the event's, so that the events of a key are in one partition,
// in order. Its value is the event's data. Its headers are id, n and kind: a
// consumer knows a repetition by id, which comes after a crash, and by n whether
// it has missed any. The producer is idempotent, so the network's own repetitions
// are not seen.
package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/mustermesh/muster/core/outbox"
)

// Config says where to write.
type Config struct {
	Brokers []string `yaml:"brokers"` // host:port; empty: no Kafka
	Topic   string   `yaml:"topic"`   // default: muster.events
	TLS     bool     `yaml:"tls"`
	CAFile  string   `yaml:"ca_file"` // certificates that the brokers' are checked by; empty: the system's
	// User signs in by SCRAM-SHA-512; empty: nobody does.
	User     string `yaml:"user"`
	Password string `yaml:"-"` // from the environment
}

// Sink writes to Kafka. It is an outbox.Sink.
type Sink struct{ client *kgo.Client }

// sendTimeout bounds a record's way. The outbox repeats it, so it need not be long.
const sendTimeout = 8 * time.Second

// New returns a sink. It connects when there is something to write.
func New(cfg Config) (*Sink, error) {
	if cfg.Topic == "" {
		cfg.Topic = "muster.events"
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...), kgo.DefaultProduceTopic(cfg.Topic), kgo.ClientID("muster"),
		kgo.RequiredAcks(kgo.AllISRAcks()), // and idempotent, which is the default
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.RecordDeliveryTimeout(sendTimeout),
		kgo.ProducerLinger(0), // a batch is what one Send has
	}
	if cfg.TLS {
		t := &tls.Config{MinVersion: tls.VersionTLS12}
		if cfg.CAFile != "" {
			pem, err := os.ReadFile(cfg.CAFile)
			if err != nil {
				return nil, fmt.Errorf("kafka: %w", err)
			}
			t.RootCAs = x509.NewCertPool()
			if !t.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("kafka: no certificate in %s", cfg.CAFile)
			}
		}
		opts = append(opts, kgo.DialTLSConfig(t))
	}
	if cfg.User != "" {
		opts = append(opts, kgo.SASL(scram.Auth{User: cfg.User, Pass: cfg.Password}.AsSha512Mechanism()))
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return &Sink{client}, nil
}

// Name satisfies outbox.Sink.
func (*Sink) Name() string { return "kafka" }

// Send satisfies outbox.Sink. All of the events are of one key, so of one partition.
// Each is written when the one before is: produced together they can end up in two
// batches, of which the first is refused and the second is not.
func (s *Sink) Send(ctx context.Context, events []outbox.Sent) error {
	for _, e := range events {
		if err := s.client.ProduceSync(ctx, &kgo.Record{
			Key: []byte(e.Key), Value: e.Data, Timestamp: e.At, Headers: []kgo.RecordHeader{
				{Key: "id", Value: []byte(e.ID.String())},
				{Key: "n", Value: strconv.AppendInt(nil, e.N, 10)},
				{Key: "kind", Value: []byte(e.Kind)},
			},
		}).FirstErr(); err != nil {
			return fmt.Errorf("kafka: %w", err)
		}
	}
	return nil
}

// Close ends the connections.
func (s *Sink) Close() { s.client.Close() }
