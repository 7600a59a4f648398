package wire

import (
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// Limits of single values.
const (
	MaxRooms       = 64   // joined by one session, or named in one Report
	MaxBody        = 4000 // characters of a message
	MaxClientID    = 64   // characters
	MaxMentions    = 20
	MaxAttachments = 10
	MaxHistory     = 200 // messages of a Page
	MaxDevice      = 64
	MaxPositions   = 64 // regions, in Join and Follow
	MaxAccuracy    = 100_000
	MaxSpeed       = 1000    // m/s: faster than what a person travels in
	MaxData        = 4 << 10 // bytes of an Update's or Notice's data
	MaxFixAge      = 24 * time.Hour
	MaxFixAhead    = 10 * time.Second // how far clocks may differ
	maxRegion      = 64
	roomUUIDLength = 36
)

// Problem is an input that is refused: a code of this package and a sentence
// that says what to do.
type Problem struct{ Code, Message string }

func (p *Problem) Error() string { return p.Code + ": " + p.Message }

// CheckDevice checks a device id: 1-64 of [A-Za-z0-9_-].
func CheckDevice(id string) *Problem {
	// Fixes without a session are shown as those of a device "http".
	if len(id) == 0 || len(id) > MaxDevice || id == "http" || strings.ContainsFunc(id, notWord) {
		return &Problem{CodeBadDevice, "choose a device id of 1 to 64 of A-Z a-z 0-9 _ -, but not http"}
	}
	return nil
}

func notWord(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
}

// CheckRoom checks a room id: a kind such as "group", a colon, and a UUID in
// lower case; for the room of two people "direct", and both of theirs, the lesser
// one first. One room has one id, or one group would become two rooms.
func CheckRoom(id string) *Problem {
	kind, name, _ := strings.Cut(id, ":")
	ok := len(kind) > 0 && len(kind) <= 16 && !strings.ContainsFunc(kind, func(r rune) bool { return r < 'a' || r > 'z' })
	if kind == "direct" {
		a, b, _ := strings.Cut(name, ":")
		ok = isUUID(a) && isUUID(b) && a < b
	} else {
		ok = ok && isUUID(name)
	}
	if !ok {
		return &Problem{CodeBadRoom, `name a room as its kind, a colon and a UUID in lower case, such as "group:0b9e…"`}
	}
	return nil
}

func isUUID(s string) bool {
	if len(s) != roomUUIDLength {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
				return false
			}
		}
	}
	return true
}

// CheckPositions checks what a client says it knows of a room.
func CheckPositions(ps []*Position) *Problem {
	if len(ps) > MaxPositions {
		return &Problem{CodeBadRequest, "name one position per region"}
	}
	for _, p := range ps {
		if p == nil || len(p.Region) == 0 || len(p.Region) > maxRegion || strings.ContainsFunc(p.Region, notWord) {
			return &Problem{CodeBadRequest, "a position names its region"}
		}
	}
	return nil
}

// CheckSend checks a message.
func CheckSend(m *Send) *Problem {
	clientID, body := m.GetClientId(), m.GetBody()
	switch {
	case !utf8.ValidString(body) || !utf8.ValidString(clientID):
		return &Problem{CodeBadMessage, "encode the message as UTF-8"}
	case clientID == "" || utf8.RuneCountInString(clientID) > MaxClientID || strings.ContainsRune(clientID, 0):
		return &Problem{CodeBadMessage, "choose a client_id of 1 to 64 characters"}
	case len(m.GetAttachments()) == 0 && strings.TrimSpace(body) == "":
		return &Problem{CodeBadMessage, "a message is not empty"}
	case utf8.RuneCountInString(body) > MaxBody:
		return &Problem{CodeBadMessage, "a message has at most 4,000 characters"}
	case strings.ContainsRune(body, 0):
		// PostgreSQL's text can't hold it.
		return &Problem{CodeBadMessage, "a message has no NUL character"}
	case m.GetReplyTo() > math.MaxInt64:
		return &Problem{CodeBadMessage, "reply_to is the number of a message"}
	case len(m.GetMentions()) > MaxMentions || !distinct(m.GetMentions()):
		return &Problem{CodeBadMessage, "name the ids of at most 20 users, each once, in mentions"}
	case len(m.GetAttachments()) > MaxAttachments || !distinct(m.GetAttachments()):
		return &Problem{CodeBadMessage, "name the ids of at most 10 uploads, each once, in attachments"}
	}
	return nil
}

// distinct reports whether these are ids, each once.
func distinct(ids []string) bool {
	for i, id := range ids {
		if !isUUID(id) || slices.Contains(ids[:i], id) {
			return false
		}
	}
	return true
}

// CheckReceipt checks how far a device says it has got.
func CheckReceipt(r *Receipt) *Problem {
	switch {
	case r.GetDelivered() == 0 && r.GetRead() == 0:
		return &Problem{CodeBadRequest, "say up to which number messages were delivered or read"}
	case r.GetDelivered() > math.MaxInt64 || r.GetRead() > math.MaxInt64:
		return &Problem{CodeBadRequest, "there is no message of that number"}
	}
	return nil
}

// CheckHistory checks which messages are asked for.
func CheckHistory(h *History) *Problem {
	asked := 0
	if h != nil && h.ChangedAfter != nil {
		asked++
	}
	for i, n := range []uint64{h.GetBefore(), h.GetAfter(), h.GetChangedAfter()} {
		if n > math.MaxInt64 {
			return &Problem{CodeBadRequest, "there is no message of that number"}
		}
		if i < 2 && n != 0 {
			asked++
		}
	}
	if asked > 1 {
		return &Problem{CodeBadRequest, "name one of before, after and changed_after"}
	}
	return nil
}

// CheckFix checks a fix as of now: a point on the globe, a plausible error,
// and a time of capture that is neither ahead of our clock nor long past.
func CheckFix(f *Fix, now time.Time) *Problem {
	p := checkFix(f, now)
	if p == nil && f.N == 0 {
		p = &Problem{CodeBadFix, "number a session's fixes from 1 in n"}
	}
	return p
}

// checkFix is CheckFix but for the number.
func checkFix(f *Fix, now time.Time) *Problem {
	p := f.GetPoint()
	if p == nil || !within(p.Lat, -90, 90) || !within(p.Lng, -180, 180) {
		return &Problem{CodeBadCoordinates, "latitude is within ±90 and longitude within ±180 degrees"}
	}
	switch {
	case !within(float64(f.Accuracy), 0, MaxAccuracy):
		return &Problem{CodeBadFix, "accuracy is 0 to 100,000 metres"}
	case f.Speed != nil && !within(float64(*f.Speed), 0, MaxSpeed):
		return &Problem{CodeBadFix, "speed is 0 to 1,000 m/s"}
	case f.Heading != nil && !within(float64(*f.Heading), 0, 360):
		return &Problem{CodeBadFix, "heading is 0 to 360 degrees"}
	case f.Battery != nil && !within(float64(*f.Battery), 0, 1):
		return &Problem{CodeBadFix, "battery is 0 to 1"}
	}
	return checkCaptured(f.Captured, now)
}

func checkCaptured(t *timestamppb.Timestamp, now time.Time) *Problem {
	if !t.IsValid() { // also when missing
		return &Problem{CodeBadFix, "captured is the time of the fix"}
	}
	switch at := t.AsTime(); {
	case at.After(now.Add(MaxFixAhead)):
		return &Problem{CodeFixInFuture, "set the device's clock: the fix is from the future"}
	case at.Before(now.Add(-MaxFixAge)):
		return &Problem{CodeFixTooOld, "a fix is at most 24 hours old"}
	}
	return nil
}

// within is false for NaN.
func within(v, low, high float64) bool {
	return !math.IsNaN(v) && v >= low && v <= high
}
