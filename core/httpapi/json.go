package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// strictFormat reads and writes JSON. It is stricter than encoding/json where
// two readers of one text could come to different results (RFC 8259 section
// 4): what we check must be what others see. Unknown fields are refused by the
// schema.
var strictFormat = huma.Format{
	Marshal: huma.DefaultJSONFormat.Marshal,
	Unmarshal: func(data []byte, v any) error {
		if _, first := v.(*any); first { // huma parses to validate, then again to fill the struct
			if err := checkJSON(data); err != nil {
				return err
			}
		}
		return json.Unmarshal(data, v)
	},
}

// maxDepth of nested objects and arrays; nobody's settings need more.
const maxDepth = 32

// checkJSON refuses invalid UTF-8, repeated keys, NUL characters (which SQL
// text can't hold), deep nesting, and anything after the value.
func checkJSON(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("the body is not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := checkValue(d, 0); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("the body is not JSON: it ends too early")
		}
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return fmt.Errorf("the body is not JSON: %v at byte %d", syntax, syntax.Offset)
		}
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the body has something after its JSON value")
	}
	return nil
}

func checkValue(d *json.Decoder, depth int) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	switch t := t.(type) {
	case string:
		return checkString(t)
	case json.Delim:
		if depth++; depth > maxDepth {
			return fmt.Errorf("the body is nested deeper than %d", maxDepth)
		}
		keys := map[string]bool{}
		for d.More() {
			if t == '{' {
				key, err := d.Token()
				if err != nil {
					return err
				}
				name, _ := key.(string) // the decoder has refused all else
				if err := checkString(name); err != nil {
					return err
				}
				if keys[name] {
					return fmt.Errorf("the body has the field %q twice", name)
				}
				keys[name] = true
			}
			if err := checkValue(d, depth); err != nil {
				return err
			}
		}
		_, err = d.Token() // the closing one
		return err
	}
	return nil
}

func checkString(s string) error {
	if strings.ContainsRune(s, 0) {
		return errors.New("the body has a string with a NUL character")
	}
	return nil
}
