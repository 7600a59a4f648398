package sdp

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mustermesh/muster/media/ice"
)

// Limits of what is read.
const (
	MaxSize     = 60_000
	maxLines    = 4_000
	maxSections = 420 // those of "down" of a large call, too
	maxCodecs   = 64  // of a section
	maxSSRCs    = 16
	MaxRids     = 3
)

// Description is what a participant's description says.
type Description struct {
	Sections []Section
	Bundle   []string // mids
}

// Section is a media section. What stands once for all is in each.
type Section struct {
	Kind      string // "audio", "video", "application"
	Mid       string
	Rejected  bool // port 0 without bundle-only
	Sends     bool // sendrecv or sendonly
	Receives  bool
	Codecs    []Codec           // in order of preference
	Exts      map[string]uint8  // by URI
	Rids      []string          // of simulcast that is sent
	SSRCs     []uint32          // in order of appearance
	Repairs   map[uint32]uint32 // SSRC of RTX, by what it repeats (a=ssrc-group:FID)
	Sim       []uint32          // a=ssrc-group:SIM
	Transport Transport
}

// Transport is how the other side can be known.
type Transport struct {
	ICE          ice.Credentials
	Fingerprints []Fingerprint
	Setup        string // "actpass", "active", "passive"
	mux          bool
}

// Fingerprint of a certificate (RFC 8122).
type Fingerprint struct {
	Hash  string // lower case: "sha-256"
	Value []byte
}

// Parse reads a description. Its errors say what is wrong with it.
func Parse(text string) (*Description, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("it has %d bytes; %d are allowed", len(text), MaxSize)
	}
	d := &Description{}
	var session Section // attributes before the first section
	at := &session
	lines := 0
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimRight(line, "\r")
		if lines++; lines > maxLines {
			return nil, fmt.Errorf("it has more than %d lines", maxLines)
		}
		if line == "" {
			continue
		}
		if len(line) < 2 || line[1] != '=' {
			return nil, fmt.Errorf("line %d is not of the form x=value", lines)
		}
		if lines == 1 && line != "v=0" {
			return nil, errors.New("it does not begin with v=0")
		}
		switch line[0] {
		case 'm':
			if len(d.Sections) == maxSections {
				return nil, fmt.Errorf("it has more than %d media sections", maxSections)
			}
			s, err := section(line[2:], session.Transport)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", lines, err)
			}
			d.Sections = append(d.Sections, s)
			at = &d.Sections[len(d.Sections)-1]
		case 'a':
			name, value, _ := strings.Cut(line[2:], ":")
			if at == &session && name == "group" {
				if mids, ok := strings.CutPrefix(value, "BUNDLE"); ok {
					d.Bundle = strings.Fields(mids)
				}
				continue
			}
			if err := at.attribute(name, value); err != nil {
				return nil, fmt.Errorf("line %d (a=%s): %w", lines, name, err)
			}
		}
	}
	if lines < 2 {
		return nil, errors.New("it is empty")
	}
	seen := map[string]bool{}
	for i := range d.Sections {
		s := &d.Sections[i]
		if s.Mid == "" || len(s.Mid) > 32 || seen[s.Mid] {
			return nil, fmt.Errorf("media section %d needs an a=mid of its own, of at most 32 bytes", i)
		}
		seen[s.Mid] = true
		// Offers at which nothing is said about direction mean both.
		s.Codecs = slices.DeleteFunc(s.Codecs, func(c Codec) bool { return c.Name == "" })
	}
	return d, nil
}

func section(value string, t Transport) (Section, error) {
	f := strings.Fields(value)
	if len(f) < 4 || len(f)-3 > maxCodecs {
		return Section{}, fmt.Errorf("a media section has a kind, a port, a protocol and up to %d formats", maxCodecs)
	}
	s := Section{Kind: f[0], Rejected: f[1] == "0", Sends: true, Receives: true, Transport: t}
	if s.Kind != "audio" && s.Kind != "video" {
		return s, nil
	}
	if !strings.HasSuffix(f[2], "/RTP/SAVPF") {
		return s, errors.New("media go over UDP/TLS/RTP/SAVPF only")
	}
	for _, pt := range f[3:] {
		n, err := strconv.ParseUint(pt, 10, 7)
		if err != nil {
			return s, fmt.Errorf("%q is no payload type", pt)
		}
		s.Codecs = append(s.Codecs, Codec{PT: uint8(n)})
	}
	return s, nil
}

var errValue = errors.New("it has a value that makes no sense")

func (s *Section) attribute(name, value string) error {
	switch name {
	case "mid":
		s.Mid = value
	case "bundle-only":
		s.Rejected = false
	case "sendrecv":
		s.Sends, s.Receives = true, true
	case "sendonly":
		s.Sends, s.Receives = true, false
	case "recvonly":
		s.Sends, s.Receives = false, true
	case "inactive":
		s.Sends, s.Receives = false, false
	case "ice-ufrag":
		s.Transport.ICE.Ufrag = value
	case "ice-pwd":
		s.Transport.ICE.Pwd = value
	case "setup":
		s.Transport.Setup = value
	case "rtcp-mux":
		s.Transport.mux = true
	case "fingerprint":
		return s.Transport.fingerprint(value)
	case "rtpmap":
		c, rest, err := s.codec(value)
		if c == nil || err != nil {
			return err
		}
		p := strings.Split(rest, "/")
		if len(p) < 2 {
			return errValue
		}
		clock, err := strconv.ParseUint(p[1], 10, 32)
		if err != nil {
			return errValue
		}
		c.Name, c.Clock = strings.ToLower(p[0]), uint32(clock)
		if len(p) > 2 {
			channels, err := strconv.ParseUint(p[2], 10, 8)
			if err != nil {
				return errValue
			}
			c.Channels = uint16(channels)
		}
	case "fmtp":
		c, rest, err := s.codec(value)
		if c == nil || err != nil {
			return err
		}
		c.Params = rest
		if apt, err := strconv.ParseUint(param(rest, "apt"), 10, 7); err == nil {
			c.APT = uint8(apt)
		}
	case "extmap":
		id, uri, _ := strings.Cut(value, " ")
		id, _, _ = strings.Cut(id, "/")
		n, err := strconv.ParseUint(id, 10, 8)
		if err != nil {
			return errValue
		}
		uri, _, _ = strings.Cut(uri, " ")
		switch uri {
		case URILevel, URITransportSeq, URIMid, URIRid, URIRepairedRid:
			// Those of one byte only (RFC 8285): 15 and 0 mean something else there.
			if n >= 1 && n <= 14 {
				if s.Exts == nil {
					s.Exts = map[string]uint8{}
				}
				s.Exts[uri] = uint8(n)
			}
		}
	case "simulcast":
		return s.simulcast(value)
	case "ssrc":
		id, _, _ := strings.Cut(value, " ")
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return errValue
		}
		if !slices.Contains(s.SSRCs, uint32(n)) {
			if len(s.SSRCs) == maxSSRCs {
				return fmt.Errorf("more than %d of them", maxSSRCs)
			}
			s.SSRCs = append(s.SSRCs, uint32(n))
		}
	case "ssrc-group":
		return s.group(value)
	}
	return nil
}

// codec finds the one that a line is about; nil: it is none of the section's.
func (s *Section) codec(value string) (*Codec, string, error) {
	pt, rest, ok := strings.Cut(value, " ")
	n, err := strconv.ParseUint(pt, 10, 7)
	if !ok || err != nil {
		return nil, "", errValue
	}
	for i := range s.Codecs {
		if s.Codecs[i].PT == uint8(n) {
			return &s.Codecs[i], rest, nil
		}
	}
	return nil, "", nil
}

func (t *Transport) fingerprint(value string) error {
	hash, text, ok := strings.Cut(value, " ")
	v, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(text), ":", ""))
	if !ok || err != nil || len(v) > 64 {
		return errValue
	}
	f := Fingerprint{Hash: strings.ToLower(hash), Value: v}
	t.Fingerprints = slices.DeleteFunc(slices.Clone(t.Fingerprints), func(o Fingerprint) bool { return o.Hash == f.Hash })
	if len(t.Fingerprints) == 4 {
		return errors.New("more than four of them")
	}
	t.Fingerprints = append(t.Fingerprints, f)
	return nil
}

// simulcast reads which rids are sent (RFC 8853): alternatives count as the first.
func (s *Section) simulcast(value string) error {
	f := strings.Fields(value)
	for i := 0; i+1 < len(f); i += 2 {
		if f[i] != "send" {
			continue
		}
		s.Rids = nil
		for alt := range strings.SplitSeq(f[i+1], ";") {
			rid, _, _ := strings.Cut(alt, ",")
			rid = strings.TrimPrefix(rid, "~")
			if rid == "" || len(rid) > 16 || slices.Contains(s.Rids, rid) {
				return errValue
			}
			if len(s.Rids) == MaxRids {
				return fmt.Errorf("more than %d layers", MaxRids)
			}
			s.Rids = append(s.Rids, rid)
		}
	}
	return nil
}

func (s *Section) group(value string) error {
	f := strings.Fields(value)
	if len(f) < 2 || len(f) > 1+maxSSRCs {
		return errValue
	}
	ids := make([]uint32, 0, len(f)-1)
	for _, id := range f[1:] {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return errValue
		}
		ids = append(ids, uint32(n))
	}
	switch {
	case f[0] == "FID" && len(ids) == 2 && len(s.Repairs) < maxSSRCs:
		if s.Repairs == nil {
			s.Repairs = map[uint32]uint32{}
		}
		s.Repairs[ids[0]] = ids[1]
	case f[0] == "SIM" && len(ids) <= MaxRids:
		s.Sim = ids
	}
	return nil
}

// Transport of a description is that of its first section in use. Everything has to be
// bundled on it.
func (d *Description) Transport() (Transport, error) {
	for _, s := range d.Sections {
		if s.Rejected {
			continue
		}
		t := s.Transport
		switch {
		case !t.ICE.Valid():
			return t, errors.New("it has no ICE credentials")
		case len(t.Fingerprints) == 0:
			return t, errors.New("it has no fingerprint of a certificate")
		case (s.Kind == "audio" || s.Kind == "video") && !t.mux:
			return t, errors.New("RTCP has to go with RTP (a=rtcp-mux)")
		case t.Setup != "actpass" && t.Setup != "active" && t.Setup != "passive":
			return t, errors.New("a=setup is actpass, active or passive")
		case !slices.Contains(d.Bundle, s.Mid):
			return t, errors.New("all has to go over one transport (a=group:BUNDLE)")
		}
		return t, nil
	}
	return Transport{}, errors.New("it has no media section in use")
}
