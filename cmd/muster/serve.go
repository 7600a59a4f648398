package main

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/notify/email"
	"github.com/mustermesh/muster/internal/node"
)

// maxDrain bounds a drain. A second signal ends the process at once.
const maxDrain = 5 * time.Minute

// ServeCmd runs one node of a deployment.
type ServeCmd struct {
	Config string `help:"The node's configuration, YAML. See docs/operations.md." required:"" type:"existingfile" placeholder:"FILE"`
	// As database_survives_region in the file.
	DatabaseSurvivesRegion bool `help:"The database goes on without any one region: messages of groups whose home region cannot be reached are written from here."`

	// What follows takes the place of what the file says.
	Roles   []string `help:"What the process does: edge and core, which go together, and dns, media and turn. Default: edge,core." placeholder:"ROLE"`
	DNS     string   `help:"UDP and TCP address of the role dns." placeholder:"ADDR"`
	DNSZone string   `help:"Zone that dns answers for. Default: the topology's dns_name." placeholder:"NAME"`
	DNSNS   []string `help:"Name servers of that zone, NAME, or NAME=IP if in it." name:"dns-ns" sep:";" placeholder:"NAME[=IP,IP]"`
	MediaFlags
	Objects      string         `help:"Where pictures and exports are kept: a directory that all nodes share, or s3://bucket/prefix?endpoint=URL&region=NAME. Default: objects in the node's data." env:"MUSTER_OBJECTS" placeholder:"WHERE"`
	MailFrom     string         `help:"What mails come from." env:"MUSTER_MAIL_FROM" placeholder:"NAME <ADDRESS>"`
	SMTPServer   string         `help:"Server that takes mails." name:"smtp-server" env:"MUSTER_SMTP_SERVER" placeholder:"HOST:PORT"`
	SMTPSecurity email.Security `help:"How the connection to it is protected: starttls, tls or none." name:"smtp-security" env:"MUSTER_SMTP_SECURITY" placeholder:"HOW"`
	SMTPUsername string         `help:"Name to sign in there." name:"smtp-username" env:"MUSTER_SMTP_USERNAME" placeholder:"NAME"`
	SMTPPassword string         `help:"Its password. Better in the environment than here." name:"smtp-password" env:"MUSTER_SMTP_PASSWORD" placeholder:"PASSWORD"`
	GoogleFlags
	StripeFlags
	KafkaBrokers  []string `help:"Kafka that gets all events of groups and users. Default: none." env:"MUSTER_KAFKA_BROKERS" placeholder:"HOST:PORT"`
	KafkaTopic    string   `help:"The topic. Default: muster.events." env:"MUSTER_KAFKA_TOPIC" placeholder:"NAME"`
	KafkaPassword string   `help:"Password of kafka.user. Better in the environment than here." env:"MUSTER_KAFKA_PASSWORD" placeholder:"PASSWORD"`

	OTLPEndpoint string   `help:"Where spans of traces go: OTLP over HTTP. Default: nowhere." name:"otlp-endpoint" env:"MUSTER_OTLP_ENDPOINT" placeholder:"URL"`
	TraceShare   *float64 `help:"Of which share of what is asked, 0 to 1. Default: 0.05." env:"MUSTER_TRACE_SHARE" placeholder:"SHARE"`
	Locations    string   `help:"File in MaxMind's format that tells where networks are." type:"existingfile" placeholder:"FILE"`
}

// override puts the flags that are given in the place of what the file says.
func (c *ServeCmd) override(cfg *node.ServeConfig) {
	cfg.DatabaseSurvivesRegion = cfg.DatabaseSurvivesRegion || c.DatabaseSurvivesRegion
	if len(c.Roles) > 0 {
		cfg.Roles = c.Roles
	}
	if len(c.DNSNS) > 0 {
		cfg.DNS.NameServers = c.DNSNS
	}
	cfg.DNS.Listen, cfg.DNS.Zone = cmp.Or(c.DNS, cfg.DNS.Listen), cmp.Or(c.DNSZone, cfg.DNS.Zone)
	c.media(cfg)
	cfg.Locations = cmp.Or(c.Locations, cfg.Locations)
	cfg.Objects = cmp.Or(c.Objects, cfg.Objects)
	cfg.Traces.Endpoint = cmp.Or(c.OTLPEndpoint, cfg.Traces.Endpoint)
	if c.TraceShare != nil {
		cfg.Traces.Share = c.TraceShare
	}
	if len(c.KafkaBrokers) > 0 {
		cfg.Kafka.Brokers = c.KafkaBrokers
	}
	cfg.Kafka.Topic, cfg.Kafka.Password = cmp.Or(c.KafkaTopic, cfg.Kafka.Topic), c.KafkaPassword
	cfg.Google.Override(c.google())
	cfg.Stripe.Override(c.stripe())
	m := &cfg.Mail
	m.From, m.Server, m.Security = cmp.Or(c.MailFrom, m.From), cmp.Or(c.SMTPServer, m.Server), cmp.Or(c.SMTPSecurity, m.Security)
	m.Username, m.Password = cmp.Or(c.SMTPUsername, m.Username), c.SMTPPassword
}

// Run serves until a signal, then drains.
func (c *ServeCmd) Run(ctx context.Context, log *slog.Logger) error {
	cfg, err := node.LoadServeConfig(c.Config)
	if err != nil {
		return err
	}
	c.override(cfg)
	cfg.Hashing.Command = hashing().Command
	s, err := node.NewServer(ctx, cfg, version(), log)
	if err != nil {
		return err
	}
	defer s.Stop()
	if err := s.Start(ctx); err != nil {
		return err
	}
	log.Info("serving", "node", cfg.Node, "http", cfg.HTTP, "peer", cfg.Peer, "admin", cfg.Admin)
	<-ctx.Done()
	drain, cancel := context.WithTimeout(context.Background(), maxDrain)
	defer cancel()
	if err := s.Drain(drain); err != nil {
		log.Warn("not everybody left in time", "err", err)
	}
	return nil
}

// MigrateCmd brings a database's schema up to date.
type MigrateCmd struct {
	Database string `help:"The database's URL." env:"MUSTER_DATABASE_URL" required:"" placeholder:"URL"`

	Locality      []string `help:"Of CockroachDB in several regions: one of ours, and the database's that keeps its rows. The first is the primary one." placeholder:"HOME=REGION"`
	SurviveRegion bool     `help:"Of CockroachDB in three or more regions: it stays up without one of them, and writes wait for another one."`
}

// Run migrates; nodes of the version before and after may run meanwhile.
func (c *MigrateCmd) Run(ctx context.Context, log *slog.Logger) error {
	if err := db.Migrate(ctx, c.Database); err != nil {
		return err
	}
	log.Info("the schema is up to date")
	if len(c.Locality) == 0 {
		return nil
	}
	r := db.Regions{SurviveRegion: c.SurviveRegion}
	for _, s := range c.Locality {
		home, database, _ := strings.Cut(s, "=")
		r.Pairs = append(r.Pairs, db.RegionPair{Home: home, Database: database})
	}
	if err := db.Localise(ctx, c.Database, r); err != nil {
		return err
	}
	log.Info("rows are kept in their regions")
	return nil
}
