// The vocabulary of the API under the names that the director gives it. The
// types are made of its own document (`npm run types`); what is written here
// says more of a type than the document can.
import type { components, Json } from './schema';

type Schemas = components['schemas'];
export type { Json };

export type State = Application['state'];
export type Goal = Application['desired'];
export type InstanceState = Instance['state'];
export type OperationState = Operation['state'];

export type Application = Schemas['Application'];
export type Service = Schemas['Service'];
export type Instance = Schemas['Instance'];
export type Figures = Schemas['Figures'];
export type Process = Schemas['Process'];
export type Log = Schemas['Log'];
export type AgentStatus = Schemas['AgentStatus'];
export type Change = Schemas['Change'];
export type CodeVersion = Schemas['CodeVersion'];
export type Step = Schemas['Step'];
export type Operation = Schemas['Operation'];
export type Event = Schemas['Event'];
export type User = Schemas['User'];
export type Session = Schemas['Session'];
export type Token = Schemas['Token'];
export type NewToken = Schemas['NewToken'];
export type AuditEntry = Schemas['AuditEntry'];
export type Cloud = Schemas['Cloud'];
export type Kind = Schemas['Kind'];
export type Part = Schemas['Part'];
export type Setting = Schemas['Setting'];
export type Action = Schemas['Action'];
export type Parameter = Schemas['Parameter'];
export type Scale = Schemas['Scale'];
export type Preview = Schemas['Preview'];
export type ActResult = Schemas['ActResult'];
export type Version = Schemas['Version'];
/** ClusterNode is a machine that lends its containers; the browser has a Node of its own. */
export type ClusterNode = Schemas['Node'];

/** Problem is an error as it is sent, or one that an operation ended with. */
export type Problem = Schemas['Error'] & Partial<Schemas['Problem']>;
