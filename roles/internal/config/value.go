package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"nutshell/roles/api"
)

// Size is a number of bytes, written as 512M or 2GiB. K, M, G and T are
// powers of 1024.
type Size int64

var sizePattern = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([KMGT]?)(?:I?B)?$`)

const units = "KMGT"

// ParseSize reads a size.
func ParseSize(s string) (Size, error) {
	m := sizePattern.FindStringSubmatch(strings.ToUpper(strings.TrimSpace(s)))
	if m == nil {
		return 0, fmt.Errorf("%s is not a size such as 512M or 2G", api.Shorten(s))
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if m[2] != "" {
		n *= float64(int64(1) << (10 * (1 + strings.Index(units, m[2]))))
	}
	if err != nil || n >= math.MaxInt64 {
		return 0, fmt.Errorf("%s is too large", api.Shorten(s))
	}
	return Size(n), nil
}

// String prints the largest unit that fits without a rest.
func (s Size) String() string {
	n, unit := int64(s), ""
	for i := 0; i < len(units) && n != 0 && n%1024 == 0; i++ {
		n, unit = n/1024, units[i:i+1]
	}
	return strconv.FormatInt(n, 10) + unit
}

// set reads text into a field.
func set(v reflect.Value, s string) error {
	switch p := v.Addr().Interface().(type) {
	case *string:
		if strings.ContainsAny(s, "\x00\r\n") {
			return errors.New("a line break is not allowed")
		}
		*p = s
	case *[]string:
		*p = nil
		for item := range strings.SplitSeq(s, ",") {
			if item = strings.TrimSpace(item); item != "" {
				*p = append(*p, item)
			}
		}
	case *Size:
		n, err := ParseSize(s)
		if err != nil {
			return err
		}
		*p = n
	case *int:
		n, err := strconv.Atoi(strings.TrimSpace(s))
		switch {
		case err != nil:
			return fmt.Errorf("%s is not a whole number", api.Shorten(s))
		case n < 0:
			return fmt.Errorf("%d is negative", n)
		}
		*p = n
	case *bool:
		b, err := strconv.ParseBool(strings.TrimSpace(s))
		if err != nil {
			return fmt.Errorf("%s is neither true nor false", api.Shorten(s))
		}
		*p = b
	case *time.Duration:
		d, err := time.ParseDuration(strings.TrimSpace(s))
		if err != nil || d < 0 {
			return fmt.Errorf("%s is not a time such as 30s or 5m", api.Shorten(s))
		}
		*p = d
	default:
		panic(fmt.Sprintf("config: no way to read a %T", p)) // a bug in Config
	}
	return nil
}

// text prints a field as set reads it.
func text(v reflect.Value) string {
	if list, ok := v.Interface().([]string); ok {
		return strings.Join(list, ", ")
	}
	if v.Kind() == reflect.Slice { // clouds, which Show prints one by one
		return ""
	}
	return fmt.Sprint(v.Interface())
}
