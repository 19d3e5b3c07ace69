package image

import (
	"errors"
	"fmt"
	"strings"
)

// pairs reads the arguments of ENV and LABEL: "key=value …", or the old form
// "key the rest is the value".
func (c *changer) pairs(instruction, rest string) ([][2]string, error) {
	raw, err := splitWords(rest)
	if err != nil {
		return nil, err
	}
	if len(raw) > 0 && !strings.Contains(raw[0], "=") {
		key, value, found := cutSpace(rest)
		if !found {
			return nil, fmt.Errorf("%s must have two arguments", instruction)
		}
		if value, err = c.expand(value); err != nil {
			return nil, err
		}
		return [][2]string{{key, value}}, nil
	}
	var pairs [][2]string
	for _, word := range raw {
		key, value, found := strings.Cut(word, "=")
		if !found {
			return nil, fmt.Errorf("Syntax error - can't find = in %q. Must be of the form: name=value", word) //nolint:staticcheck // Docker's message
		}
		if key, err = c.expand(key); err != nil {
			return nil, err
		}
		if key == "" {
			return nil, fmt.Errorf("%s names can not be blank", instruction)
		}
		if value, err = c.expand(value); err != nil {
			return nil, err
		}
		pairs = append(pairs, [2]string{key, value})
	}
	return pairs, nil
}

// words splits and expands arguments.
func (c *changer) words(rest string) ([]string, error) {
	raw, err := splitWords(rest)
	if err != nil {
		return nil, err
	}
	for i := range raw {
		if raw[i], err = c.expand(raw[i]); err != nil {
			return nil, err
		}
	}
	return raw, nil
}

func (c *changer) oneWord(instruction, rest string) (string, error) {
	words, err := c.words(rest)
	if err == nil && len(words) != 1 {
		err = fmt.Errorf("%s requires exactly one argument", instruction)
	}
	if err != nil {
		return "", err
	}
	return words[0], nil
}

// splitWords splits at spaces outside of quotes. Quotes and escapes stay in.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote byte
	inWord := false
	for i := 0; i < len(s); i++ {
		b := s[i]
		switch {
		case b == '\\' && quote != '\'' && i+1 < len(s):
			word.WriteByte(b)
			i++
			word.WriteByte(s[i])
			inWord = true
			continue
		case quote != 0 && b == quote:
			quote = 0
		case quote == 0 && (b == '"' || b == '\''):
			quote = b
		case quote == 0 && (b == ' ' || b == '\t'):
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
			continue
		}
		word.WriteByte(b)
		inWord = true
	}
	if quote != 0 {
		return nil, errors.New("unexpected end of statement while looking for matching " + quoteName(quote))
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

func quoteName(quote byte) string {
	if quote == '"' {
		return "double-quote"
	}
	return "single-quote"
}

// expand takes the quotes off a word and puts in environment variables: $NAME,
// ${NAME}, ${NAME:-default} and ${NAME:+other}.
func (c *changer) expand(word string) (string, error) {
	return c.expandDepth(word, 0)
}

// maxExpansion bounds defaults within defaults.
const maxExpansion = 16

func (c *changer) expandDepth(word string, depth int) (string, error) {
	if depth > maxExpansion {
		return "", errors.New("variables are nested too deeply")
	}
	var out strings.Builder
	var quote byte
	for i := 0; i < len(word); i++ {
		b := word[i]
		switch {
		case quote == '\'' && b != '\'':
			out.WriteByte(b)
		case b == '\\' && i+1 < len(word):
			next := word[i+1]
			if quote == '"' && !strings.ContainsRune("\"$\\", rune(next)) {
				out.WriteByte(b)
			}
			out.WriteByte(next)
			i++
		case quote != 0 && b == quote:
			quote = 0
		case quote == 0 && (b == '"' || b == '\''):
			quote = b
		case b == '$':
			value, used, err := c.variable(word[i+1:], depth)
			if err != nil {
				return "", err
			}
			out.WriteString(value)
			i += used
		default:
			out.WriteByte(b)
		}
	}
	if quote != 0 {
		return "", errors.New("unexpected end of statement while looking for matching " + quoteName(quote))
	}
	return out.String(), nil
}

// variable reads what follows a dollar sign and returns the variable's value and
// how many bytes it took.
func (c *changer) variable(s string, depth int) (value string, used int, err error) {
	if !strings.HasPrefix(s, "{") {
		n := nameLength(s)
		if n == 0 {
			return "$", 0, nil
		}
		value, _ := c.lookup(s[:n])
		return value, n, nil
	}
	end := closingBrace(s)
	if end < 0 {
		return "", 0, errors.New("syntax error: missing '}'")
	}
	inner := s[1:end]
	n := nameLength(inner)
	if n == 0 {
		return "", 0, fmt.Errorf("syntax error: bad substitution ${%s}", inner)
	}
	value, set := c.lookup(inner[:n])
	set = set && value != ""
	switch rest := inner[n:]; {
	case rest == "":
		return value, end + 1, nil
	case strings.HasPrefix(rest, ":-"):
		if !set {
			value, err = c.expandDepth(rest[2:], depth+1)
		}
		return value, end + 1, err
	case strings.HasPrefix(rest, ":+"):
		value = ""
		if set {
			value, err = c.expandDepth(rest[2:], depth+1)
		}
		return value, end + 1, err
	default:
		return "", 0, fmt.Errorf("unsupported modifier in substitution ${%s}", inner)
	}
}

func closingBrace(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

func nameLength(s string) int {
	for i := range len(s) {
		b := s[i]
		letter := b == '_' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
		if !letter && (i == 0 || b < '0' || b > '9') {
			return i
		}
	}
	return len(s)
}

func (c *changer) lookup(name string) (string, bool) {
	for _, have := range c.cfg.Env {
		if value, ok := strings.CutPrefix(have, name+"="); ok {
			return value, true
		}
	}
	return "", false
}
