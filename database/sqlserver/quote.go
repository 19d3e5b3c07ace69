package sqlserver

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf16"
)

// maxName is the length of a sysname, in UTF-16 code units ("Database Identifiers").
const maxName = 128

// quoteName makes a delimited identifier of any name, as QUOTENAME does with brackets: a closing bracket within is doubled
// ("QUOTENAME (Transact-SQL)").
func quoteName(s string) string { return "[" + strings.ReplaceAll(s, "]", "]]") + "]" }

// quoteText makes a Unicode constant: a quotation mark within is doubled ("Constants (Transact-SQL)").
func quoteText(s string) string { return "N'" + strings.ReplaceAll(s, "'", "''") + "'" }

// checkName tells why a text cannot be the name of a database, login or user; nil if it can.
func checkName(s string) error {
	switch {
	case s == "":
		return errors.New("the name is empty")
	case len(utf16.Encode([]rune(s))) > maxName:
		return errors.New("the name has more than 128 characters")
	case strings.ContainsRune(s, 0) || strings.ContainsRune(s, unicode.ReplacementChar):
		return errors.New("the name has a character that SQL Server does not take")
	}
	return nil
}

// clean makes text of the server fit for a message of one line.
func clean(s string) string {
	const limit = 300
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsGraphic(r) || r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, s)
	if r := []rune(strings.TrimSpace(s)); len(r) > limit {
		return string(r[:limit]) + "…"
	}
	return strings.TrimSpace(s)
}
