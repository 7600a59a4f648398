package steering

import (
	"fmt"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/regions/placement"
)

// metrics of a server. What each query touches is looked up once.
type metrics struct {
	registry   prometheus.Registerer
	all        []prometheus.Collector
	queries    [len(countedTypes) + 1][len(countedCodes)]prometheus.Counter
	answers    *prometheus.CounterVec
	subnets    prometheus.Counter
	truncated  prometheus.Counter
	ignored    prometheus.Counter
	slipped    prometheus.Counter
	dropped    prometheus.Counter
	refusedTCP prometheus.Counter
}

var (
	// Types and codes that have a series of their own; others count as the last.
	countedTypes = [...]uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeTXT, dns.TypeSOA, dns.TypeNS, dns.TypeANY}
	countedCodes = [...]int{dns.RcodeSuccess, dns.RcodeNameError, dns.RcodeRefused, dns.RcodeNotImplemented, dns.RcodeBadVers, dns.RcodeFormatError}
)

func newMetrics(s *Server, r prometheus.Registerer) (*metrics, error) {
	m := &metrics{registry: r}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "muster_dns_" + name, Help: help}, labels)
		m.all = append(m.all, c)
		return c
	}
	queries := counter("queries_total", "Queries that were answered.", "type", "rcode")
	for i := range m.queries {
		t := "other"
		if i < len(countedTypes) {
			t = dns.TypeToString[countedTypes[i]]
		}
		for k, code := range countedCodes {
			m.queries[i][k] = queries.WithLabelValues(t, dns.RcodeToString[code])
		}
	}
	m.answers = counter("answers_total", "Answers with a region's records, by region.", "to")
	m.subnets = counter("client_subnet_total", "Queries with a client subnet.").WithLabelValues()
	m.truncated = counter("truncated_total", "Answers that did not fit: their askers come again by TCP.").WithLabelValues()
	unanswered := counter("unanswered_total", "Packets that got no answer, or none but that TCP be used.", "why")
	m.ignored, m.dropped = unanswered.WithLabelValues("no_query"), unanswered.WithLabelValues("rate")
	m.slipped, m.refusedTCP = unanswered.WithLabelValues("rate_use_tcp"), unanswered.WithLabelValues("tcp_connections")
	m.all = append(m.all, standings{s.cfg.Watch})
	if r == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := r.Register(c); err != nil {
			m.all = m.all[:i]
			m.unregister()
			return nil, fmt.Errorf("dns: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.registry != nil {
		for _, c := range m.all {
			m.registry.Unregister(c)
		}
	}
}

func (m *metrics) note(r result, answered bool) {
	if !answered {
		m.ignored.Inc()
		return
	}
	t, code := 0, 0
	for t < len(countedTypes) && countedTypes[t] != r.qtype {
		t++
	}
	for code < len(countedCodes)-1 && countedCodes[code] != r.rcode {
		code++
	}
	m.queries[t][code].Inc()
	if r.given != nil {
		r.given.Inc()
	}
	if r.subnet {
		m.subnets.Inc()
	}
	if r.truncated {
		m.truncated.Inc()
	}
}

// standings are how the regions stand at the time of asking.
type standings struct{ watch *Watch }

var (
	regionUp   = prometheus.NewDesc("muster_dns_region_up", "Whether clients are sent to a region: 1 yes, 0 no, -1 nothing was heard of it yet.", []string{"to"}, nil)
	regionLoad = prometheus.NewDesc("muster_dns_region_load", "A region's load: 1 is full.", []string{"to"}, nil)
	regionShed = prometheus.NewDesc("muster_dns_region_shedding", "Whether a region is so full that clients are sent elsewhere.", []string{"to"}, nil)
)

func (s standings) Describe(ch chan<- *prometheus.Desc) {
	ch <- regionUp
	ch <- regionLoad
	ch <- regionShed
}

func (s standings) Collect(ch chan<- prometheus.Metric) {
	v, _ := s.watch.View()
	for _, r := range v.Regions {
		up, shed := 0.0, 0.0
		switch {
		case r.State == placement.Up:
			up = 1
		case r.State == placement.Unknown:
			up = -1
		}
		if r.Full {
			shed = 1
		}
		ch <- prometheus.MustNewConstMetric(regionUp, prometheus.GaugeValue, up, r.Name)
		ch <- prometheus.MustNewConstMetric(regionLoad, prometheus.GaugeValue, r.Load, r.Name)
		ch <- prometheus.MustNewConstMetric(regionShed, prometheus.GaugeValue, shed, r.Name)
	}
}
