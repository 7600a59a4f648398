package attachments

import (
	"encoding/base64"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func metadata(name string) string {
	return "filename " + base64.StdEncoding.EncodeToString([]byte(name))
}

func TestSniff(t *testing.T) {
	for head, want := range map[string]string{
		"\xff\xd8\xff\xe0": "image/jpeg", "\x89PNG\r\n\x1a\n": "image/png", "GIF89a": "image/gif", "RIFF\x00\x00\x00\x00WEBPVP8 ": "image/webp",
		"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00": "video/mp4", "\x00\x00\x00\x18ftypqt  ": "video/mp4", "\x00\x00\x00\x18ftypM4A ": "audio/mp4",
		"\x00\x00\x00\x18ftypheic": "", "\x1a\x45\xdf\xa3": "video/webm", "ID3\x03": "audio/mpeg", "\xff\xfb\x90\x44\x00": "audio/mpeg", "\xff\xfb\xf0\x44\x00": "",
		"OggS\x00": "audio/ogg", "RIFF\x00\x00\x00\x00WAVE": "audio/wav", "%PDF-1.7": "application/pdf", "PK\x03\x04": "application/zip",
		"hello": "text/plain", "ä": "text/plain", strings.Repeat("x", 511) + "\xc3": "text/plain", "\xef\xbb\xbfhello": "text/plain",
		"hell\xff": "", "\xef\xbb\xbf <a>": "", "a <SVG onload=x>": "", "": "", " \n": "", "<!-- x -->": "", "\xfe\xff\x00<": "",
		"\x00asm": "", "#!/bin/sh": "text/plain", "Rar!\x1a\x07\x00": "", "\x1f\x8b\x08": "", "BM": "", "\x00\x00\x01\x00": "",
	} {
		require.Equal(t, want, sniff([]byte(head)), "%q", head)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"a.txt": "a.txt", "": "file", "../../etc/passwd": "passwd", `C:\x\y.txt`: "y.txt", "..": "file", ".htaccess": "htaccess", "a\x00b\nc": "abc",
		"photo\u202egpj.exe": "photogpj.exe", "<script>": "script", "a\xffb": "ab", "  ": "file", "ä.txt": "ä.txt", `"x"`: "x",
		strings.Repeat("ä", 200) + ".txt": strings.Repeat("ä", 125) + ".txt", "a/": "file",
	} {
		require.Equal(t, want, cleanName(name), "%q", name)
	}
	require.Equal(t, "cat.html.png", fitName("cat.html", "image/png"))
	require.Equal(t, "CAT.PNG", fitName("CAT.PNG", "image/png"))
	require.Equal(t, "file.jpg", fitName("file", "image/jpeg"))
	require.Equal(t, "report.docx", fitName("report.docx", "application/zip"))
	require.Equal(t, "evil.html.txt", fitName("evil.html", "text/plain"))
	require.Equal(t, maxName, len(fitName("a."+strings.Repeat("x", maxName-2), "text/plain")))
}

func TestMetadata(t *testing.T) {
	m, err := ParseMetadata("filename d29ybGQ=,is_confidential, filetype aW1hZ2UvcG5n")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"filename": "world", "is_confidential": "", "filetype": "image/png"}, m)
	for _, bad := range []string{",", "a b c", "a %%", "a YQ==,a YQ==", "ä YQ==", "a YQ==,", "a\tYQ==", strings.Repeat("a", 5000)} {
		_, err := ParseMetadata(bad)
		require.ErrorIs(t, err, ErrBadUpload, "%q", bad)
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add("filename d29ybGQ=,is_confidential", "image/png")
	f.Add(metadata("../\u202ex.html\x00"), "text/plain")
	f.Add("a "+strings.Repeat("QUFB", 900), "application/zip")
	f.Fuzz(func(t *testing.T, header, kind string) {
		m, err := ParseMetadata(header)
		if err != nil {
			require.Nil(t, m)
			return
		}
		for _, raw := range m {
			name := cleanName(raw)
			if ends, ok := endings[kind]; ok {
				name = fitName(name, kind)
				require.True(t, slices.Contains(ends, strings.ToLower(path.Ext(name))), "%q", name)
			}
			require.NotEmpty(t, name)
			require.LessOrEqual(t, len(name), maxName)
			require.True(t, utf8.ValidString(name))
			require.False(t, strings.ContainsAny(name, `/\"<>`) || strings.ContainsFunc(name, unicode.IsControl), "%q", name)
			require.NotPanics(t, func() { disposition(name, kind) })
		}
	})
}
