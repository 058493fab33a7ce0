package logs

import "time"

// stamp reads the time at the beginning of b and how long its text is. It
// knows what daemons write:
//
//	2026-11-22T15:04:05.123+01:00   2026-11-22 15:04:05,123   2026/11/22 15:04:05
//	22-Nov-2026 15:04:05.123        22/Nov/2026:15:04:05 +0100
//	Nov 22 15:04:05                 Nov 22, 2026 3:04:05 PM
//	Sun Nov 22 15:04:05.123 2026    261122 15:04:05
func (r *recogniser) stamp(b []byte) (at int64, length int, ok bool) {
	s := reader{r: r, b: b}
	switch {
	case len(b) < 13:
		return 0, 0, false
	case b[0] >= '0' && b[0] <= '9':
		ok = s.numbers()
	case b[0] >= 'A' && b[0] <= 'Z':
		ok = s.names()
	}
	return s.at, s.i, ok
}

// reader takes a time apart.
type reader struct {
	r  *recogniser
	b  []byte
	i  int
	at int64
}

func (s *reader) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *reader) skip(c byte) bool {
	if s.peek() == c {
		s.i++
		return true
	}
	return false
}

// number reads at most n digits, at least one.
func (s *reader) number(n int) (int, bool) {
	v, from := 0, s.i
	for s.i < len(s.b) && s.i-from < n && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		v = v*10 + int(s.b[s.i]-'0')
		s.i++
	}
	return v, s.i > from
}

func (s *reader) month() (time.Month, bool) {
	const all = "JanFebMarAprMayJunJulAugSepOctNovDec"
	if s.i+3 > len(s.b) {
		return 0, false
	}
	for m := range 12 {
		if string(s.b[s.i:s.i+3]) == all[m*3:m*3+3] {
			s.i += 3
			return time.Month(m + 1), true
		}
	}
	return 0, false
}

// clock reads 15:04:05 and a fraction.
func (s *reader) clock() (h, m, sec, nanos int, ok bool) {
	h, ok1 := s.number(2)
	c1 := s.skip(':')
	m, ok2 := s.number(2)
	c2 := s.skip(':')
	sec, ok3 := s.number(2)
	if !ok1 || !ok2 || !ok3 || !c1 || !c2 || h > 23 || m > 59 || sec > 60 {
		return 0, 0, 0, 0, false
	}
	if c := s.peek(); (c == '.' || c == ',') && s.i+1 < len(s.b) && s.b[s.i+1] >= '0' && s.b[s.i+1] <= '9' {
		s.i++
		scale := 100_000_000
		for n := 0; s.peek() >= '0' && s.peek() <= '9'; n++ {
			if n < 9 {
				nanos += int(s.peek()-'0') * scale
				scale /= 10
			}
			s.i++
		}
	}
	return h, m, sec, nanos, true
}

// offset reads Z, +0100, +01:00, " +0100" or " UTC"; none is the instance's zone.
func (s *reader) offset() (seconds int, given bool) {
	from := s.i
	if s.skip('Z') {
		return 0, true
	}
	s.skip(' ')
	if len(s.b) >= s.i+3 && (string(s.b[s.i:s.i+3]) == "UTC" || string(s.b[s.i:s.i+3]) == "GMT") {
		s.i += 3
		return 0, true
	}
	sign := 1
	switch s.peek() {
	case '-':
		sign = -1
	case '+':
	default:
		s.i = from
		return 0, false
	}
	s.i++
	h, ok1 := s.number(2)
	s.skip(':')
	m, ok2 := s.number(2)
	if !ok1 || !ok2 || h > 15 {
		s.i = from
		return 0, false
	}
	return sign * (h*3600 + m*60), true
}

func (s *reader) set(y int, mo time.Month, d, h, m, sec, nanos int, zone *time.Location) bool {
	if y < 1970 || y > 2200 || mo < 1 || mo > 12 || d < 1 || d > 31 {
		return false
	}
	offset, given := s.offset()
	if !given {
		s.at = time.Date(y, mo, d, h, m, sec, nanos, zone).UnixNano()
		return true
	}
	s.at = time.Date(y, mo, d, h, m, sec, nanos, time.UTC).Add(-time.Duration(offset) * time.Second).UnixNano()
	return true
}

// numbers reads a time that begins with a digit.
func (s *reader) numbers() bool {
	zone := s.r.zone
	first, _ := s.number(6)
	digits := s.i
	switch c := s.peek(); {
	case digits == 4 && (c == '-' || c == '/'): // 2026-11-22, 2026/11/22
		s.i++
		mo, ok1 := s.number(2)
		c1 := s.skip(c)
		d, ok2 := s.number(2)
		if !ok1 || !ok2 || !c1 || !s.skip('T') && !s.skip(' ') {
			return false
		}
		s.skip(' ')
		h, m, sec, nanos, ok := s.clock()
		return ok && s.set(first, time.Month(mo), d, h, m, sec, nanos, zone)
	case digits <= 2 && (c == '-' || c == '/'): // 22-Nov-2026, 22/Nov/2026:
		s.i++
		mo, ok1 := s.month()
		c1 := s.skip(c)
		y, ok2 := s.number(4)
		if !ok1 || !ok2 || !c1 || !s.skip(' ') && !s.skip(':') {
			return false
		}
		h, m, sec, nanos, ok := s.clock()
		if !ok {
			return false
		}
		if s.peek() == ' ' && s.i+1 < len(s.b) && letter(s.b[s.i+1]) { // PHP names its zone: Europe/Amsterdam
			zone = s.zone(zone)
		}
		return s.set(y, mo, first, h, m, sec, nanos, zone)
	case digits == 6 && c == ' ': // 261122 15:04:05, of MariaDB's own scripts
		s.i++
		s.skip(' ')
		h, m, sec, nanos, ok := s.clock()
		return ok && s.set(2000+first/10000, time.Month(first/100%100), first%100, h, m, sec, nanos, zone)
	}
	return false
}

// zone reads a zone's name before "]", and falls back to the one given.
func (s *reader) zone(zone *time.Location) *time.Location {
	for end := s.i + 1; end < len(s.b) && end < s.i+40; end++ {
		if s.b[end] != ']' {
			continue
		}
		name := string(s.b[s.i+1 : end])
		if name == "UTC" || name == "GMT" {
			return zone // offset knows them
		}
		if name != s.r.name { // looking one up reads files
			s.r.name = name
			s.r.named, _ = time.LoadLocation(name)
		}
		if s.r.named != nil {
			s.i = end
			return s.r.named
		}
		break
	}
	return zone
}

// names reads a time that begins with a letter.
func (s *reader) names() bool {
	zone := s.r.zone
	mo, ok := s.month()
	if !ok { // the day of the week
		if len(s.b) < 10 || s.b[3] != ' ' && (s.b[3] != ',' || s.b[4] != ' ') {
			return false
		}
		s.i = 4
		s.skip(' ')
		if mo, ok = s.month(); !ok {
			return false
		}
	}
	if !s.skip(' ') {
		return false
	}
	s.skip(' ')
	d, ok := s.number(2)
	if !ok {
		return false
	}
	if s.skip(',') { // Nov 22, 2026 3:04:05 PM
		s.skip(' ')
		y, ok1 := s.number(4)
		s.skip(' ')
		h, m, sec, nanos, ok2 := s.clock()
		if !ok1 || !ok2 {
			return false
		}
		if len(s.b) >= s.i+3 && s.b[s.i+2] == 'M' {
			switch {
			case s.b[s.i+1] == 'P' && h < 12:
				h += 12
			case s.b[s.i+1] == 'A' && h == 12:
				h = 0
			}
			s.i += 3
		}
		return s.set(y, mo, d, h, m, sec, nanos, zone)
	}
	if !s.skip(' ') {
		return false
	}
	h, m, sec, nanos, ok := s.clock()
	if !ok {
		return false
	}
	from := s.i
	if s.skip(' ') {
		if y, ok := s.number(4); ok && s.i-from == 5 && y >= 1970 && y < 2200 {
			return s.set(y, mo, d, h, m, sec, nanos, zone)
		}
	}
	s.i = from
	return s.set(s.year(mo, d, zone), mo, d, h, m, sec, nanos, zone)
}

// year is that of a time which does not tell it: the latest that is not in the
// future.
func (s *reader) year(mo time.Month, d int, zone *time.Location) int {
	now := s.r.now.In(zone)
	if time.Date(now.Year(), mo, d, 0, 0, 0, 0, zone).After(now.AddDate(0, 0, 1)) {
		return now.Year() - 1
	}
	return now.Year()
}
