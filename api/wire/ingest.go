package wire

import (
	"encoding/binary"
	"math"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Limits of fleets.
const (
	MaxIngest  = 1000 // fixes of an Ingest
	MaxSubject = 64   // characters of a subject's name
)

// CheckSubject checks the name of a fleet's subject: 1-64 of [A-Za-z0-9-_.].
func CheckSubject(name string) *Problem {
	if len(name) == 0 || len(name) > MaxSubject || strings.ContainsFunc(name, func(r rune) bool { return r != '.' && notWord(r) }) {
		return &Problem{CodeBadSubject, "name a subject by 1 to 64 of A-Z a-z 0-9 - _ ."}
	}
	return nil
}

// CheckFleet checks the id of a fleet.
func CheckFleet(id string) *Problem {
	if !isUUID(id) {
		return &Problem{CodeBadRequest, "name a fleet by its id"}
	}
	return nil
}

// CheckSubjectFix checks a fix of a fleet's subject as of now: one without a point
// says only when that was, or nothing.
func CheckSubjectFix(f *SubjectFix, now time.Time) *Problem {
	if p := CheckSubject(f.GetSubject()); p != nil {
		return p
	}
	switch {
	case f.Fix.GetPoint() != nil:
		return checkFix(f.Fix, now)
	case f.Fix.GetCaptured() != nil:
		return checkCaptured(f.Fix.Captured, now)
	}
	return nil
}

// Decoder decodes client frames one after the other. A gateway sends hundreds of
// fixes in a frame, each of them four messages: a frame with an Ingest is decoded
// into memory that is used again. What is unusual about one (a field that this
// version does not know, or that comes twice) is left to the generated code.
type Decoder struct {
	pool *Pool
	lent *ingestFrame
}

// Pool is the memory of Decoders.
type Pool struct{ frames sync.Pool }

// Decoder returns one that decodes into memory of the pool.
func (p *Pool) Decoder() Decoder { return Decoder{pool: p} }

// Client is DecodeClient, but that an Ingest (with all that is in it but strings)
// must not be used after Release, which comes before the next call.
func (d *Decoder) Client(b []byte) (*ClientFrame, error) {
	if !mayIngest(b) {
		return DecodeClient(b)
	}
	f, _ := d.pool.frames.Get().(*ingestFrame)
	if f == nil {
		f = &ingestFrame{}
	}
	d.lent = f
	if f.decode(b) {
		return &f.frame, nil
	}
	return DecodeClient(b)
}

// Release gives back what the last frame was decoded into.
func (d *Decoder) Release() {
	if d.lent != nil {
		d.lent.clear()
		d.pool.frames.Put(d.lent)
		d.lent = nil
	}
}

// ingestFrame is a ClientFrame with what it points to.
type ingestFrame struct {
	frame   ClientFrame
	body    ClientFrame_Ingest
	whole   Ingest
	fixes   []*SubjectFix
	samples []sample
	names   []byte // of the subjects
}

// sample is a SubjectFix with what it points to.
type sample struct {
	subject                 SubjectFix
	fix                     Fix
	point                   Point
	captured                timestamppb.Timestamp
	speed, heading, battery float32
	named                   int // where its name ends in names
}

func (f *ingestFrame) clear() {
	clear(f.samples)
	f.frame.Body, f.whole.Fixes = nil, nil
	f.samples, f.names = f.samples[:0], f.names[:0]
}

const (
	tagID     = 1<<3 | varint
	tagIngest = 15<<3 | length
)

// mayIngest reports whether a frame looks like one with an Ingest.
func mayIngest(b []byte) bool {
	all := fields{left: b}
	return all.next() && (all.tag != tagID || all.next()) && all.tag == tagIngest
}

// decode decodes the body of a client frame with an Ingest; false: the generated
// code is to do it. Of more than MaxIngest fixes it decodes one too many.
func (f *ingestFrame) decode(b []byte) bool {
	all := fields{left: b}
	all.next()
	f.frame.Id = 0
	if all.tag == tagID {
		f.frame.Id = all.number
		all.next()
	}
	if all.tag != tagIngest || len(all.left) > 0 {
		return false
	}
	b = all.bytes
	count := 0
	for all := (fields{left: b}); len(all.left) > 0; count++ {
		if !all.next() || all.tag != 1<<3|length {
			return false
		}
	}
	count = min(count, MaxIngest+1)
	if cap(f.samples) < count {
		f.samples, f.fixes = make([]sample, count), make([]*SubjectFix, count)
		for i := range f.samples {
			f.fixes[i] = &f.samples[i].subject
		}
	}
	f.samples = f.samples[:count]
	all = fields{left: b}
	for i := range f.samples {
		all.next()
		if !f.samples[i].decode(all.bytes, f) {
			return false
		}
	}
	names, from := string(f.names), 0
	for i := range f.samples {
		s := &f.samples[i]
		s.subject.Subject, from = names[from:s.named], s.named
	}
	f.frame.Body, f.body.Ingest, f.whole.Fixes = &f.body, &f.whole, f.fixes[:count]
	return true
}

// decode decodes a SubjectFix; false: it is unusual, or broken.
func (s *sample) decode(b []byte, f *ingestFrame) bool {
	named := false
	for all := (fields{left: b}); len(all.left) > 0; {
		if !all.next() {
			return false
		}
		switch {
		case all.tag == 1<<3|length && !named:
			named = true
			f.names = append(f.names, all.bytes...)
		case all.tag == 2<<3|length && s.subject.Fix == nil:
			s.subject.Fix = &s.fix
			if !s.decodeFix(all.bytes) {
				return false
			}
		default:
			return false
		}
	}
	s.named = len(f.names)
	return true
}

func (s *sample) decodeFix(b []byte) bool {
	f := &s.fix
	for all := (fields{left: b}); len(all.left) > 0; {
		if !all.next() {
			return false
		}
		switch {
		case all.tag == 1<<3|length && f.Point == nil:
			f.Point = &s.point
			if !s.decodePoint(all.bytes) {
				return false
			}
		case all.tag == 2<<3|fixed32:
			f.Accuracy = all.float()
		case all.tag == 3<<3|fixed32:
			s.speed, f.Speed = all.float(), &s.speed
		case all.tag == 4<<3|fixed32:
			s.heading, f.Heading = all.float(), &s.heading
		case all.tag == 5<<3|length && f.Captured == nil:
			f.Captured = &s.captured
			if !s.decodeCaptured(all.bytes) {
				return false
			}
		case all.tag == 6<<3|varint:
			f.N = all.number
		case all.tag == 7<<3|fixed32:
			s.battery, f.Battery = all.float(), &s.battery
		case all.tag == 8<<3|fixed64:
			f.Cell = all.number
		default:
			return false
		}
	}
	return true
}

func (s *sample) decodePoint(b []byte) bool {
	if len(b) == 18 && b[0] == 1<<3|fixed64 && b[9] == 2<<3|fixed64 { // as a rule
		s.point.Lat = math.Float64frombits(binary.LittleEndian.Uint64(b[1:]))
		s.point.Lng = math.Float64frombits(binary.LittleEndian.Uint64(b[10:]))
		return true
	}
	for all := (fields{left: b}); len(all.left) > 0; {
		if !all.next() {
			return false
		}
		switch all.tag {
		case 1<<3 | fixed64:
			s.point.Lat = math.Float64frombits(all.number)
		case 2<<3 | fixed64:
			s.point.Lng = math.Float64frombits(all.number)
		default:
			return false
		}
	}
	return true
}

func (s *sample) decodeCaptured(b []byte) bool {
	for all := (fields{left: b}); len(all.left) > 0; {
		if !all.next() {
			return false
		}
		switch all.tag {
		case 1<<3 | varint:
			s.captured.Seconds = int64(all.number)
		case 2<<3 | varint:
			s.captured.Nanos = int32(all.number)
		default:
			return false
		}
	}
	return true
}

// Types of fields (protobuf's "Encoding", the message structure). A tag is a
// number << 3 | its type.
const (
	varint  = 0
	fixed64 = 1
	length  = 2
	fixed32 = 5
)

// fields goes through the fields of a message.
type fields struct {
	left []byte
	// The last one.
	tag    byte
	number uint64
	bytes  []byte
}

// next reads a field; false: it has a number above 15, an unusual type, or is
// cut off.
func (f *fields) next() bool {
	b := f.left
	if len(b) == 0 || b[0] >= 0x80 || b[0] < 1<<3 {
		return false
	}
	f.tag = b[0]
	b = b[1:]
	switch f.tag & 7 {
	case varint, length:
		if len(b) > 0 && b[0] < 0x80 {
			f.number, b = uint64(b[0]), b[1:]
		} else {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return false
			}
			f.number, b = v, b[n:]
		}
		if f.tag&7 == varint {
			break
		}
		if f.number > uint64(len(b)) {
			return false
		}
		f.bytes, b = b[:f.number], b[f.number:]
	case fixed64:
		if len(b) < 8 {
			return false
		}
		f.number, b = binary.LittleEndian.Uint64(b), b[8:]
	case fixed32:
		if len(b) < 4 {
			return false
		}
		f.number, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
	default:
		return false
	}
	f.left = b
	return true
}

func (f *fields) float() float32 { return math.Float32frombits(uint32(f.number)) }
