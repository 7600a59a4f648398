package attachments

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// sniffed is how much of a file says what it is.
const sniffed = 512

// endings are those of each type that is let in; the first is the one a name gets
// that has none of them.
var endings = map[string][]string{
	"image/jpeg":      {".jpg", ".jpeg", ".jfif"},
	"image/png":       {".png"},
	"image/gif":       {".gif"},
	"image/webp":      {".webp"},
	"video/mp4":       {".mp4", ".m4v", ".mov", ".3gp"},
	"video/webm":      {".webm"},
	"audio/webm":      {".weba", ".webm"},
	"audio/mpeg":      {".mp3"},
	"audio/mp4":       {".m4a", ".mp4"},
	"audio/ogg":       {".ogg", ".oga", ".opus"},
	"audio/wav":       {".wav"},
	"application/pdf": {".pdf"},
	"application/zip": {".zip", ".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp", ".epub", ".kmz", ".gpkg"},
	"text/plain":      {".txt", ".md", ".csv", ".tsv", ".log", ".json", ".ics", ".vcf", ".yaml", ".yml", ".srt"},
}

// sniff returns the media type of a file by its beginning (WHATWG MIME Sniffing, with
// the brands of ISO 14496-12 and MPEG audio without tags); empty if it is none of
// those that are let in.
func sniff(head []byte) string {
	if len(head) >= 12 && string(head[4:8]) == "ftyp" {
		switch brand := string(head[8:12]); {
		case brand == "M4A " || brand == "M4B ":
			return "audio/mp4"
		case slices.Contains([]string{"isom", "iso2", "iso3", "iso4", "iso5", "iso6", "mp41", "mp42", "avc1", "M4V ", "MSNV", "dash", "qt  ", "3gp4", "3gp5", "3gp6", "3g2a"}, brand):
			return "video/mp4"
		}
		return ""
	}
	kind, _, _ := strings.Cut(http.DetectContentType(head), ";")
	switch kind {
	case "application/ogg":
		return "audio/ogg"
	case "audio/wave":
		return "audio/wav"
	case "application/octet-stream":
		// A frame of MPEG audio: eleven ones, layer III, neither reserved rate.
		if len(head) >= 4 && head[0] == 0xff && head[1]&0xe6 == 0xe2 && head[1]&0x18 != 0x08 && head[2]&0xf0 != 0xf0 && head[2]&0x0c != 0x0c {
			return "audio/mpeg"
		}
		return ""
	case "text/plain":
		text := bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))
		// SVG, XML and HTML with something before it are text to the standard.
		if trimmed := bytes.TrimSpace(text); len(trimmed) == 0 || trimmed[0] == '<' || bytes.Contains(bytes.ToLower(text), []byte("<svg")) || !prefixOfUTF8(text) {
			return ""
		}
	}
	if _, ok := endings[kind]; !ok {
		return ""
	}
	return kind
}

// prefixOfUTF8 is utf8.Valid for a text that is cut off somewhere.
func prefixOfUTF8(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			return len(b) < utf8.UTFMax && !utf8.FullRune(b)
		}
		b = b[n:]
	}
	return true
}

// maxMetadata is how long Upload-Metadata may be.
const maxMetadata = 4096

// ParseMetadata reads an Upload-Metadata header (tus 1.0.0, creation): pairs between
// commas, of a key and, after a space, a value in base64, which may be left out.
func ParseMetadata(header string) (map[string]string, error) {
	meta := map[string]string{}
	if strings.TrimSpace(header) == "" {
		return meta, nil
	}
	if len(header) > maxMetadata {
		return nil, ErrBadUpload
	}
	for pair := range strings.SplitSeq(header, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(pair), " ")
		if key == "" || strings.IndexFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
			return nil, ErrBadUpload
		}
		if _, twice := meta[key]; twice {
			return nil, ErrBadUpload
		}
		b, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return nil, ErrBadUpload
		}
		meta[key] = string(b)
	}
	return meta, nil
}

// cleanName makes of what a client calls a file the last part of a path that can be
// shown and saved: without control characters and those that turn the writing around,
// which make "gpj.exe" of what ends in .exe.
func cleanName(name string) string {
	name = strings.ToValidUTF8(name, "")
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) && r != '\u200d' || r == '\u2028' || r == '\u2029' || strings.ContainsRune(`<>:"|?*`, r) {
			return -1
		}
		return r
	}, name)
	name = strings.Trim(name, " .")
	if name == "" {
		return "file"
	}
	return cut(name, maxName)
}

// fitName gives a name the ending of what the file is: whoever saves it opens it with
// what is made for that.
func fitName(name, kind string) string {
	ends := endings[kind]
	if slices.Contains(ends, strings.ToLower(path.Ext(name))) {
		return name
	}
	return cut(name, maxName-len(ends[0])) + ends[0]
}

// cut shortens a name to some bytes, and keeps its ending.
func cut(name string, most int) string {
	if len(name) <= most {
		return name
	}
	end := path.Ext(name)
	if len(end) > 16 {
		end = ""
	}
	return strings.ToValidUTF8(name[:most-len(end)], "") + end
}
