package config

import (
	"fmt"
	"regexp"

	"gopkg.in/yaml.v3"
)

var cloudPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// clouds reads the list of clouds:
//
//	clouds:
//	  - name: here
//	    driver: lxc
//	    options: {subnet: 10.200.0.0/16}
func (l *loader) clouds(n *yaml.Node, at func(*yaml.Node) string) error {
	if n.Kind != yaml.SequenceNode {
		return wrong(at(n), "clouds", "expected a list of clouds, each with name, driver and options")
	}
	var list []Cloud
	for i, item := range n.Content {
		c, err := readCloud(resolve(item), fmt.Sprintf("clouds[%d]", i), at)
		if err != nil {
			return err
		}
		for _, other := range list {
			if other.Name == c.Name {
				return wrong(at(item), "clouds", "there are two clouds named %s", c.Name)
			}
		}
		list = append(list, c)
	}
	l.config.Clouds, l.config.origins["clouds"] = list, at(n)
	return nil
}

func readCloud(n *yaml.Node, key string, at func(*yaml.Node) string) (Cloud, error) {
	c := Cloud{Options: map[string]string{}}
	if n.Kind != yaml.MappingNode {
		return c, wrong(at(n), key, "expected name, driver and options")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], resolve(n.Content[i+1])
		var into *string
		switch k.Value {
		case "name":
			into = &c.Name
		case "driver":
			into = &c.Driver
		case "options":
			if err := readOptions(v, key+".options", c.Options, at); err != nil {
				return c, err
			}
			continue
		default:
			return c, wrong(at(k), key+"."+k.Value, "there is no such key; a cloud has name, driver and options")
		}
		if v.Kind != yaml.ScalarNode || isNull(v) {
			return c, wrong(at(v), key+"."+k.Value, "expected one word")
		}
		*into = v.Value
	}
	switch {
	case c.Driver == "":
		return c, wrong(at(n), key+".driver", "it is missing")
	case c.Name == "":
		return c, wrong(at(n), key+".name", "it is missing")
	case !cloudPattern.MatchString(c.Name):
		return c, wrong(at(n), key+".name", "%q is not 1 to 32 of a-z, 0-9 and -", c.Name)
	}
	return c, nil
}

// readOptions leaves the names to the driver, which knows them.
func readOptions(n *yaml.Node, key string, into map[string]string, at func(*yaml.Node) string) error {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return wrong(at(n), key, "expected names with values")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], resolve(n.Content[i+1])
		if v.Kind != yaml.ScalarNode || isNull(v) {
			return wrong(at(v), key+"."+k.Value, "expected one value")
		}
		into[k.Value] = v.Value
	}
	return nil
}
