package php

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
	"nutshell/services/web"
)

// askTime bounds what Plan asks an instance.
const askTime = 5 * time.Second

// Plan implements services.Manager. An instance whose image lacks an extension
// that the service asks for by now is replaced: another one is launched, with
// the image of today, before it goes.
func (m *manager) Plan(have []api.Instance, want map[string]int, prefer []string) (services.Layout, error) {
	var unfit []api.Instance
	if m.Host != nil { // the director plans without
		unfit = m.unfit(have, want)
	}
	fit := slices.DeleteFunc(slices.Clone(have), func(i api.Instance) bool { return holds(unfit, i.ID) })
	l, err := m.Manager.Plan(fit, want, prefer)
	l.Leave = append(l.Leave, unfit...)
	return l, err
}

func holds(list []api.Instance, id string) bool {
	return slices.ContainsFunc(list, func(i api.Instance) bool { return i.ID == id })
}

// unfit are the instances that make pages, or may have to, and cannot.
// Instances on loopback are processes of a machine that is not ours to change:
// another one there would lack the same.
func (m *manager) unfit(have []api.Instance, want map[string]int) []api.Instance {
	needed, err := extensionPackages(m.Host.Service().Service.Settings)
	if err != nil || len(needed) == 0 {
		return nil
	}
	var list []api.Instance
	for _, i := range have {
		pages := slices.Contains(i.Parts, web.Backend) || want[web.Backend] == 1 && slices.Contains(i.Parts, web.Proxy)
		if a, err := netip.ParseAddr(i.Address); !pages || err == nil && a.IsLoopback() {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), askTime)
		var lacks []string
		err := m.Host.Call(ctx, i.ID, "lacks", needed, &lacks)
		cancel()
		if err == nil && len(lacks) > 0 { // one that does not answer is somebody else's trouble
			m.Host.Log().Info("instance will be replaced", "instance", i.ID, "lacks", strings.Join(lacks, ", "))
			list = append(list, i)
		}
	}
	return list
}

// extensionPackages implements services.Kind.ExtraPackages.
func extensionPackages(raw json.RawMessage) ([]string, error) {
	s, err := parseSettings(raw)
	if err != nil {
		return nil, err
	}
	return extraPackages(s), nil
}

// Call implements services.Agent: "lacks" tells which packages are not here.
func (a *agent) Call(ctx context.Context, method string, args json.RawMessage) (any, error) {
	if method != "lacks" {
		return a.SharingAgent.Call(ctx, method, args)
	}
	var packages []string
	if err := json.Unmarshal(args, &packages); err != nil {
		return nil, api.Invalidf("lacks: %v", err)
	}
	lacks := []string{}
	for _, p := range packages {
		if name := strings.TrimPrefix(p, "php-"); extensionName.MatchString(name) && !installed(a.p.fpm.debian, name) {
			lacks = append(lacks, p)
		}
	}
	return lacks, nil
}
