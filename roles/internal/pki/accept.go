package pki

import (
	"fmt"

	"nutshell/roles/api"
)

// Director accepts the director and nobody else.
func Director(id api.Identity) error {
	if id.Role != api.RoleDirector {
		return fmt.Errorf("%s is not the director", id)
	}
	return nil
}

// ManagerOf accepts the managers of one application.
func ManagerOf(application int64) func(api.Identity) error {
	return func(id api.Identity) error {
		if id.Role != api.RoleManager || id.Application != application {
			return fmt.Errorf("%s is not the manager of application %d", id, application)
		}
		return nil
	}
}

// AgentsOf accepts the agents of one service.
func AgentsOf(application, service int64) func(api.Identity) error {
	return func(id api.Identity) error {
		if id.Role != api.RoleAgent || id.Application != application || id.Service != service {
			return fmt.Errorf("%s is not an agent of service %d of application %d", id, service, application)
		}
		return nil
	}
}

// AgentOf accepts one agent of an application, by its instance.
func AgentOf(application int64, instance string) func(api.Identity) error {
	return func(id api.Identity) error {
		if id.Role != api.RoleAgent || id.Application != application || id.Name != instance {
			return fmt.Errorf("%s is not the agent %s of application %d", id, instance, application)
		}
		return nil
	}
}

// NodeOf accepts one node, by its id.
func NodeOf(node string) func(api.Identity) error {
	return func(id api.Identity) error {
		if id.Role != api.RoleNode || id.Name != node {
			return fmt.Errorf("%s is not the node %s", id, node)
		}
		return nil
	}
}
