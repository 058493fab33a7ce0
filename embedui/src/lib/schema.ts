// Code generated from openapi.json by `npm run types`. DO NOT EDIT.
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type paths = Record<string, never>;
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        Account: {
            /** Format: int64 */
            credit: number;
            enforced: boolean;
            /** Format: date-time */
            exhausted?: string;
            /** Format: int64 */
            held: number;
            /** Format: int64 */
            per_hour: number;
            quota: components["schemas"]["Quota"];
            used: components["schemas"]["Quota"];
            user: string;
        };
        Act: {
            args?: {
                [key: string]: string;
            };
        };
        Action: {
            gives?: string;
            name: string;
            params: components["schemas"]["Parameter"][];
            reads: boolean;
            secret?: string;
            summary: string;
            takes?: string;
            title: string;
        };
        Activate: {
            version: string;
        };
        ActResult: {
            result?: Json;
            text: string;
        };
        AddKey: {
            name?: string;
            text: string;
        };
        AddPasskey: {
            ceremony: string;
            credential: Json;
            name?: string;
        };
        AddSite: {
            certificate?: string;
            chain?: string;
            key?: string;
            name: string;
        };
        AgentStatus: {
            /** Format: date-time */
            booted: string;
            figures: components["schemas"]["Figures"];
            instance: string;
            kind?: Json;
            logs: components["schemas"]["Log"][];
            problem?: string;
            processes: components["schemas"]["Process"][];
            ready: boolean;
        };
        Application: {
            /** @enum {string} */
            access: "viewer" | "developer" | "owner";
            cloud: string;
            /** Format: date-time */
            created: string;
            /** @enum {string} */
            desired: "started" | "stopped";
            /** Format: int64 */
            id: number;
            manager?: components["schemas"]["Instance"];
            name: string;
            offered?: boolean;
            operation?: string;
            owner: string;
            reason: string;
            services?: components["schemas"]["Service"][];
            /** @enum {string} */
            state: "INIT" | "PROLOGUE" | "RUNNING" | "ADAPTING" | "EPILOGUE" | "STOPPED" | "ERROR";
        };
        ApproveNode: {
            fingerprint?: string;
            /** @description that people call it by; the model and the end of the serial number otherwise */
            name?: string;
            /** @description id of the lost node whose name and network it gets, and which is removed: what replaces says, or nothing */
            replace?: string;
        };
        AttachVolume: {
            instance: string;
        };
        AuditEntry: {
            action: string;
            actor: string;
            from: string;
            /** Format: int64 */
            id: number;
            object: string;
            result: string;
            /** Format: date-time */
            time: string;
        };
        Backup: {
            /** Format: int64 */
            application: number;
            application_name: string;
            /** Format: int64 */
            bytes: number;
            finding?: string;
            id: string;
            kind: string;
            operation?: string;
            position?: string;
            problem?: string;
            /** Format: int64 */
            service: number;
            service_name: string;
            /** @enum {string} */
            state: "taking" | "ready" | "error";
            /** Format: date-time */
            taken: string;
            /** Format: date-time */
            until?: string;
            /** Format: date-time */
            verified?: string;
            why: string;
        };
        Binding: {
            kind: string;
            service: string;
            values: {
                [key: string]: string;
            };
        };
        Bindings: {
            gets: components["schemas"]["Binding"][];
            offers: components["schemas"]["Binding"];
            variables: components["schemas"]["Variable"][];
        };
        Binned: {
            /** Format: int64 */
            application: number;
            application_name: string;
            by: string;
            /** Format: int64 */
            bytes: number;
            /** Format: date-time */
            deleted: string;
            holds: components["schemas"]["Held"][];
            id: string;
            in?: string;
            kind: string;
            name: string;
            object?: string;
            /** Format: int64 */
            service?: number;
            service_name?: string;
            /** Format: date-time */
            until: string;
        };
        Ceremony: {
            id: string;
            options: Json;
        };
        Change: {
            reason: string;
            /** @enum {string} */
            state: "INIT" | "PROLOGUE" | "RUNNING" | "ADAPTING" | "EPILOGUE" | "STOPPED" | "ERROR";
            /** Format: date-time */
            time: string;
        };
        ChangeEnvironment: {
            set?: components["schemas"]["Variable"][];
            unset?: string[];
        };
        ChangeService: {
            auto_deploy?: boolean;
            bind?: string[];
            /** Format: int64 */
            keep_versions?: number;
            name?: string;
        };
        ChangeSystem: {
            set: {
                [key: string]: string;
            };
        };
        ChangeUser: {
            /** Format: int64 */
            add_credit?: number;
            admin?: boolean;
            affiliation?: string;
            current?: string;
            email?: string;
            first_name?: string;
            last_name?: string;
            password?: string;
        };
        ChangeVolume: {
            /** Format: int64 */
            bytes?: number;
        };
        Cloud: {
            default: boolean;
            driver: string;
            /** Format: int64 */
            instances: number;
            name: string;
            problem?: string;
            ready: boolean;
            /** @description what is wrong with it and does not keep it from running instances */
            warnings?: string[];
        };
        CodeRules: {
            accepts: boolean;
            help: string;
        };
        CodeVersion: {
            by: string;
            /** Format: int64 */
            bytes: number;
            /** Format: date-time */
            created: string;
            current: boolean;
            description: string;
            filename: string;
            /** Format: int64 */
            files: number;
            format: string;
            id: string;
            sha256: string;
            strip: string;
        };
        CreateApplication: {
            cloud?: string;
            name: string;
        };
        CreateBackup: {
            verify?: boolean;
        };
        CreateService: {
            cloud?: string;
            kind: string;
            name?: string;
        };
        CreateSnapshot: {
            name?: string;
        };
        CreateToken: {
            /** Format: int64 */
            days?: number;
            name: string;
            scope?: string;
        };
        CreateUser: {
            admin?: boolean;
            affiliation?: string;
            /** Format: int64 */
            credit?: number;
            email: string;
            first_name?: string;
            last_name?: string;
            name: string;
            password: string;
        };
        CreateVolume: {
            /** Format: int64 */
            bytes: number;
            instance?: string;
            name: string;
        };
        Desired: {
            application: components["schemas"]["Application"];
            /** Format: int64 */
            revision: number;
            services: components["schemas"]["DesiredService"][];
        };
        DesiredService: {
            code?: components["schemas"]["CodeVersion"];
            deleting?: boolean;
            environment?: components["schemas"]["Variable"][];
            front?: string[];
            instances: components["schemas"]["Instance"][];
            operation?: components["schemas"]["Operation"];
            patience?: {
                [key: string]: number;
            };
            previous?: components["schemas"]["CodeVersion"];
            remove?: string[];
            /** Format: int64 */
            retry: number;
            script?: string;
            secrets?: {
                [key: string]: string;
            };
            served?: boolean;
            service: components["schemas"]["Service"];
            volumes?: components["schemas"]["Volume"][];
        };
        Difference: {
            files: components["schemas"]["FileChange"][];
            from: string;
            /** Format: int64 */
            omitted: number;
            /** Format: int64 */
            same: number;
            to: string;
        };
        Directory: {
            entries: components["schemas"]["Entry"][];
            more: boolean;
            path: string;
        };
        Edge: {
            acme: boolean;
            domain: string;
            fallback?: string;
            /** Format: int64 */
            http: number;
            /** Format: int64 */
            https: number;
            on: boolean;
        };
        Enrol: {
            csr: string;
            secret: string;
        };
        Enrolled: {
            chain: string;
            /** Format: date-time */
            expires: string;
            identity: string;
            /** Format: date-time */
            now: string;
        };
        Entry: {
            /** Format: int64 */
            bytes: number;
            mode: string;
            /** Format: date-time */
            modified: string;
            name: string;
            of?: string;
            target?: string;
            /** @enum {string} */
            type: "file" | "directory" | "link" | "other";
        };
        Error: {
            /** @enum {string} */
            code: "invalid" | "unauthorized" | "second_factor" | "forbidden" | "proof_needed" | "not_found" | "conflict" | "too_large" | "too_many_requests" | "quota" | "unavailable" | "deadline" | "cancelled" | "no_space" | "internal";
            factors?: string[];
            fields?: string[];
            hint?: string;
            log_tail?: string[];
            message: string;
            object?: string;
            op?: string;
            related?: string;
            /** Format: int64 */
            retry_after?: number;
        };
        Event: {
            /** Format: int64 */
            application: number;
            data: Json;
            /** Format: int64 */
            id: number;
            object: string;
            /** Format: int64 */
            service: number;
            /** Format: date-time */
            time: string;
            type: string;
        };
        Exposure: {
            interface: string;
            /** @description of the interface; empty: it has none */
            network: string;
            /** @description administrators whose password alone lets them in */
            no_second_factor: string[];
            /** @description where people are signed in from beyond that network, the newest first */
            outside: components["schemas"]["Visit"][];
            /** @description addresses that instances get there, FIRST-LAST */
            pool: string;
            /** @description what is wrong with the range of addresses */
            problem?: string;
        };
        Factors: {
            passkey_host: string;
            passkey_problem?: string;
            passkeys: components["schemas"]["Passkey"][];
            totp?: components["schemas"]["TOTP"];
        };
        Figures: {
            /** Format: date-time */
            at: string;
            /** Format: double */
            cpu_percent: number;
            /** Format: int64 */
            disk_bytes: number;
            /** Format: int64 */
            memory_bytes: number;
            /** Format: int64 */
            memory_limit: number;
            /** Format: int64 */
            processes: number;
        };
        File: {
            /** Format: int64 */
            bytes: number;
            link?: string;
            mode: string;
            path: string;
            sha256?: string;
        };
        FileChange: {
            /** Format: int64 */
            after: number;
            /** Format: int64 */
            before: number;
            /** @enum {string} */
            change: "added" | "removed" | "changed";
            path: string;
        };
        Folder: {
            found: string;
            names: string[];
            /** Format: int64 */
            service: number;
            version: string;
        };
        Grant: {
            /** Format: int64 */
            amount: number;
            reason?: string;
        };
        Graph: {
            id: string;
            series: components["schemas"]["Series"][];
            /** Format: date-time */
            since: string;
            /** Format: int64 */
            step: number;
            title: string;
            unit: string;
            /** Format: date-time */
            until: string;
        };
        HandOver: {
            /** @enum {string} */
            stay?: "viewer" | "developer" | "owner";
            user: string;
        };
        Healthy: {
            status: string;
        };
        Held: {
            /** Format: int64 */
            bytes?: number;
            /** Format: int64 */
            count: number;
            names?: string[];
            what: string;
        };
        Instance: {
            address: string;
            /** Format: int64 */
            application: number;
            cloud: string;
            /** Format: date-time */
            created: string;
            figures?: components["schemas"]["Figures"];
            id: string;
            /** @description name of the node it runs on, where its cloud has nodes */
            node?: string;
            parts: string[];
            /** @description IP by which people outside of the cloud reach its public ports; none: address */
            public?: string;
            reason?: string;
            /** Format: int64 */
            service: number;
            /** @enum {string} */
            state: "asked" | "booting" | "ready" | "lost" | "leaving";
            weights?: {
                [key: string]: number;
            };
        };
        InstanceReport: {
            figures?: components["schemas"]["Figures"];
            id: string;
            parts: string[];
            reason?: string;
            /** @enum {string} */
            state: "asked" | "booting" | "ready" | "lost" | "leaving";
        };
        Key: {
            /** Format: date-time */
            created: string;
            fingerprint: string;
            id: string;
            name: string;
            type: string;
            /** Format: date-time */
            used?: string;
        };
        Kind: {
            actions: components["schemas"]["Action"][];
            backups: boolean;
            code: components["schemas"]["CodeRules"];
            name: string;
            offers: components["schemas"]["Offer"][];
            packages: string[];
            parts: components["schemas"]["Part"][];
            secrets: components["schemas"]["Secret"][];
            settings: components["schemas"]["Setting"][];
            summary: string;
            title: string;
            volumes: boolean;
        };
        LaunchEntry: {
            id: string;
            parts: string[];
        };
        LaunchRequest: {
            instances: components["schemas"]["LaunchEntry"][];
            /** Format: int64 */
            service: number;
        };
        LaunchResult: {
            error?: components["schemas"]["Error"];
            instances: components["schemas"]["Instance"][];
            patience?: {
                [key: string]: number;
            };
        };
        LedgerEntry: {
            actor: string;
            /** Format: int64 */
            amount: number;
            /** Format: int64 */
            application?: number;
            /** Format: int64 */
            balance: number;
            /** Format: int64 */
            id: number;
            instance?: string;
            kind: string;
            reason: string;
            /** Format: int64 */
            service?: number;
            /** Format: date-time */
            time: string;
        };
        Log: {
            /** Format: int64 */
            bytes: number;
            description: string;
            name: string;
        };
        LogCount: {
            /** Format: date-time */
            at: string;
            /** Format: int64 */
            debug?: number;
            /** Format: int64 */
            error?: number;
            /** Format: int64 */
            info?: number;
            /** Format: int64 */
            other?: number;
            /** Format: int64 */
            warn?: number;
        };
        LogCounts: {
            buckets: components["schemas"]["LogCount"][];
            /** Format: int64 */
            scanned: number;
            silent: components["schemas"]["LogSilent"][];
            /** Format: date-time */
            since: string;
            /** Format: int64 */
            total: number;
            /** Format: date-time */
            until: string;
            whole: boolean;
        };
        LogLine: {
            /** Format: date-time */
            at?: string;
            /** Format: int64 */
            cut?: number;
            id: string;
            instance: string;
            /** @enum {string} */
            level?: "debug" | "info" | "warn" | "error";
            log: string;
            matches?: [
                number,
                number
            ][];
            service?: string;
            text: string;
        };
        LogPage: {
            after: string;
            before?: string;
            lines: components["schemas"]["LogLine"][];
            more: boolean;
            /** Format: int64 */
            scanned: number;
            silent: components["schemas"]["LogSilent"][];
        };
        LogSilent: {
            instance: string;
            log?: string;
            message: string;
            service?: string;
        };
        LogSource: {
            /** Format: int64 */
            bytes: number;
            description: string;
            /** Format: date-time */
            first?: string;
            instance: string;
            /** Format: date-time */
            last?: string;
            log: string;
            parts?: string[];
            service?: string;
        };
        LogSources: {
            silent: components["schemas"]["LogSilent"][];
            sources: components["schemas"]["LogSource"][];
        };
        ManifestCheck: {
            application: string;
            /** Format: int64 */
            credits: number;
            missing: string[];
            notes: string[];
            services: components["schemas"]["ManifestService"][];
        };
        ManifestService: {
            kind: string;
            name: string;
            parts: {
                [key: string]: number;
            };
            started: boolean;
        };
        Measured: {
            /** Format: date-time */
            at: string;
            instance: string;
            parts: string[];
            samples: components["schemas"]["Sample"][];
            /** Format: int64 */
            service: number;
        };
        Member: {
            /** @enum {string} */
            access: "viewer" | "developer" | "owner";
            by?: string;
            name: string;
            offered?: boolean;
            pays?: boolean;
            /** Format: date-time */
            since: string;
            user: string;
        };
        NewToken: {
            secret: string;
            token: components["schemas"]["Token"];
        };
        NewTOTP: {
            qr: components["schemas"]["QR"];
            secret: string;
            uri: string;
        };
        Node: {
            address: string;
            arch: string;
            /** Format: int64 */
            cpus: number;
            /**
             * Format: int64
             * @description bytes of the file system that holds its instances
             */
            disk: number;
            /**
             * Format: int64
             * @description bytes
             */
            disk_free: number;
            /** @description SHA-256 of its public key; the node's own screen shows the same */
            fingerprint: string;
            /**
             * Format: double
             * @description of the processor in degrees Celsius; none where the machine has no sensor
             */
            heat?: number;
            /**
             * Format: double
             * @description at which the machine switches itself off, in degrees Celsius
             */
            heat_most?: number;
            id: string;
            /** Format: int64 */
            instances: number;
            /**
             * Format: date-time
             * @description when it asked first
             */
            joined: string;
            /** @description digests of the image layers that it has */
            layers: string[];
            /**
             * Format: double
             * @description mean number of runnable processes over a minute
             */
            load: number;
            /**
             * Format: int64
             * @description bytes
             */
            memory: number;
            /**
             * Format: int64
             * @description bytes that no program uses
             */
            memory_free: number;
            model: string;
            name: string;
            /** @description the voltage of its supply was too low within the last hour, as a Raspberry Pi measures it */
            power_low?: boolean;
            reason?: string;
            /** @description id of a lost node with the same serial number, whose place a machine that waits can take */
            replaces?: string;
            /** Format: date-time */
            seen: string;
            /** @description number that the machine's maker gave it */
            serial: string;
            /** @enum {string} */
            state: "waiting" | "ready" | "cordoned" | "draining" | "lost";
            /** @description of its containers; none while it waits */
            subnet?: string;
            version: string;
            /** @description what is wrong with it and does not keep it from running instances */
            warnings?: string[];
        };
        NodeFacts: {
            arch?: string;
            boot?: string;
            /** Format: date-time */
            clock?: string;
            /** Format: int64 */
            cpus?: number;
            /** Format: int64 */
            disk?: number;
            /** Format: int64 */
            disk_free?: number;
            /** Format: double */
            heat?: number;
            /** Format: double */
            heat_most?: number;
            layers?: string[];
            /** Format: double */
            load?: number;
            /** Format: int64 */
            memory?: number;
            /** Format: int64 */
            memory_free?: number;
            model?: string;
            name?: string;
            networks?: string[];
            /** Format: int64 */
            port?: number;
            power_low?: boolean;
            problem?: string;
            serial?: string;
            version?: string;
        };
        NodeJoin: {
            challenge?: string;
            csr: string;
            facts: components["schemas"]["NodeFacts"];
            proof?: string;
        };
        NodeJoined: {
            challenge: string;
            enrolled?: components["schemas"]["Enrolled"];
            id: string;
            /** Format: date-time */
            now: string;
            waiting: boolean;
        };
        NodeOrders: {
            name: string;
            /** Format: date-time */
            now: string;
            peers: components["schemas"]["NodePeer"][];
            ports: number[];
            /** @enum {string} */
            state: "waiting" | "ready" | "cordoned" | "draining" | "lost";
            subnet: string;
        };
        NodePeer: {
            address: string;
            subnet: string;
        };
        Offer: {
            help: string;
            name: string;
            secret: boolean;
        };
        OneTimeCode: {
            code: string;
        };
        OpenSession: {
            agent: string;
            /** Format: date-time */
            created: string;
            /** Format: date-time */
            expires: string;
            id: string;
            remote: string;
            /** Format: date-time */
            seen: string;
            this: boolean;
        };
        Operation: {
            actor: string;
            /** Format: int64 */
            application: number;
            cancellable: boolean;
            cancelling?: boolean;
            /** Format: date-time */
            created: string;
            /** Format: date-time */
            deadline: string;
            /** Format: date-time */
            ended?: string;
            error?: components["schemas"]["Error"];
            /** Format: int64 */
            expected_ms?: number;
            id: string;
            kind: string;
            parent?: string;
            /** Format: double */
            progress: number;
            request?: Json;
            retry_of?: string;
            /** Format: int64 */
            service: number;
            /** Format: date-time */
            started?: string;
            /** @enum {string} */
            state: "pending" | "running" | "done" | "failed" | "cancelled";
            steps: components["schemas"]["Step"][];
            title: string;
            undone?: string;
        };
        OperationReply: {
            cancelling: boolean;
        };
        OperationReport: {
            error?: components["schemas"]["Error"];
            /** Format: double */
            progress: number;
            /** @enum {string} */
            state: "pending" | "running" | "done" | "failed" | "cancelled";
            steps: components["schemas"]["Step"][];
            undone?: string;
        };
        Parameter: {
            enum?: string[];
            help: string;
            name: string;
            required: boolean;
            type?: string;
        };
        Part: {
            /** Format: int64 */
            default: number;
            fixed: boolean;
            /** Format: int64 */
            max: number;
            /** Format: int64 */
            min: number;
            name: string;
            ports: components["schemas"]["Port"][];
            summary: string;
            title: string;
            to: string[];
            volume?: string;
        };
        Passkey: {
            /** Format: date-time */
            created: string;
            host: string;
            id: string;
            name: string;
            synced: boolean;
            /** Format: date-time */
            used?: string;
        };
        Port: {
            /** Format: int64 */
            number: number;
            public: boolean;
            use: string;
        };
        Preview: {
            change: string[];
            /** Format: int64 */
            credits: number;
            launch: string[][];
            leave: string[];
            parts: {
                [key: string]: number;
            };
        };
        Problem: {
            /** @enum {string} */
            code: "invalid" | "unauthorized" | "second_factor" | "forbidden" | "proof_needed" | "not_found" | "conflict" | "too_large" | "too_many_requests" | "quota" | "unavailable" | "deadline" | "cancelled" | "no_space" | "internal";
            factors?: string[];
            fields?: string[];
            hint?: string;
            log_tail?: string[];
            message: string;
            object?: string;
            op?: string;
            related?: string;
            request?: string;
            /** Format: int64 */
            retry_after?: number;
            /** Format: int64 */
            status: number;
            title: string;
        };
        Process: {
            message?: string;
            name: string;
            /** Format: int64 */
            pid: number;
            /** Format: int64 */
            restarts: number;
            /** Format: date-time */
            since: string;
            state: string;
        };
        Proof: {
            passkey?: components["schemas"]["UsePasskey"];
            password?: string;
        };
        QR: {
            path: string;
            /** Format: int64 */
            size: number;
        };
        Quota: {
            /** Format: int64 */
            applications: number;
            /** Format: int64 */
            instances: number;
            /** Format: int64 */
            volume_bytes: number;
        };
        RecoveryCodes: {
            codes: string[];
        };
        Rename: {
            name: string;
        };
        Report: {
            instances: components["schemas"]["InstanceReport"][];
            reason: string;
            /** Format: int64 */
            service: number;
            serving: string;
            /** @enum {string} */
            state: "INIT" | "PROLOGUE" | "RUNNING" | "ADAPTING" | "EPILOGUE" | "STOPPED" | "ERROR";
            urls: string[];
        };
        Repository: {
            branch: string;
            branches: string[];
            /** Format: int64 */
            bytes: number;
            clone: string;
            commit: string;
            folders: components["schemas"]["Folder"][];
            host_key: string;
            /** Format: date-time */
            pushed?: string;
            subject: string;
            url: string;
        };
        RestoreBackup: {
            /** Format: date-time */
            at?: string;
            backup: string;
            new?: string;
        };
        Restored: {
            /** Format: int64 */
            application: number;
            kind: string;
            name: string;
            notes: string[];
            object?: string;
            /** Format: int64 */
            service?: number;
        };
        Revision: {
            by: string;
            changes: components["schemas"]["RevisionChange"][];
            /** Format: int64 */
            number: number;
            /** Format: date-time */
            time: string;
            why: string;
        };
        RevisionChange: {
            from: string;
            name: string;
            secret?: boolean;
            to: string;
            what: string;
        };
        Sample: {
            labels?: {
                [key: string]: string;
            };
            name: string;
            /** Format: double */
            value: number;
        };
        Scale: {
            add?: {
                [key: string]: number;
            };
            cloud?: string;
            remove?: string[];
            set?: {
                [key: string]: number;
            };
        };
        Script: {
            text: string;
        };
        Secret: {
            /** Format: date-time */
            changed?: string;
            help: string;
            name: string;
            own: boolean;
            shown: boolean;
            title: string;
        };
        Series: {
            labels?: {
                [key: string]: string;
            };
            name: string;
            points: [
                number,
                number
            ][];
        };
        Service: {
            /** Format: int64 */
            application: number;
            auto_deploy: boolean;
            bind: string[];
            cloud: string;
            /** Format: date-time */
            created: string;
            /** @enum {string} */
            desired: "started" | "stopped";
            /** Format: int64 */
            id: number;
            instances?: components["schemas"]["Instance"][];
            /** Format: int64 */
            keep_versions: number;
            kind: string;
            name: string;
            operation?: string;
            parts: {
                [key: string]: number;
            };
            reason: string;
            /** Format: int64 */
            revision: number;
            serving?: string;
            settings: Record<string, Json>;
            /** Format: date-time */
            since: string;
            /** @enum {string} */
            state: "INIT" | "PROLOGUE" | "RUNNING" | "ADAPTING" | "EPILOGUE" | "STOPPED" | "ERROR";
            urls: string[];
            version?: string;
        };
        Session: {
            csrf: string;
            user: components["schemas"]["User"];
        };
        SetMember: {
            /** @enum {string} */
            access: "viewer" | "developer" | "owner";
        };
        SetSecret: {
            value?: string;
        };
        Setting: {
            default: Json;
            enum?: string[];
            help: string;
            /** Format: int64 */
            max?: number;
            /** Format: int64 */
            min?: number;
            name: string;
            pattern?: string;
            restart: boolean;
            title: string;
            type: string;
            unit?: string;
        };
        Setup: {
            /** Format: int64 */
            applications: number;
            clouds: components["schemas"]["Cloud"][];
            /** @description of an appliance */
            exposure?: components["schemas"]["Exposure"];
            needed: boolean;
            password_generated: boolean;
        };
        Shown: {
            value: string;
        };
        SignIn: {
            code?: string;
            name: string;
            password: string;
        };
        Site: {
            automatic: boolean;
            certificate: string;
            /** Format: date-time */
            expires?: string;
            name: string;
            problem?: string;
            url: string;
        };
        Snapshot: {
            /** Format: int64 */
            bytes: number;
            /** Format: date-time */
            created: string;
            name: string;
        };
        Start: {
            cloud?: string;
        };
        StartUpload: {
            /** Format: int64 */
            bytes: number;
            description?: string;
            filename: string;
            sha256?: string;
            strip?: boolean;
        };
        Step: {
            detail?: string;
            /** Format: date-time */
            ended?: string;
            name: string;
            /** Format: date-time */
            started?: string;
            /** @enum {string} */
            state: "pending" | "running" | "done" | "failed" | "cancelled";
        };
        SystemSetting: {
            by?: string;
            changeable: boolean;
            /** Format: date-time */
            changed?: string;
            choices?: string[];
            default: string;
            help?: string;
            key: string;
            kind: string;
            origin: string;
            value: string;
        };
        Template: {
            /** Format: int64 */
            credits: number;
            kinds: string[];
            manifest: string;
            name: string;
            problem?: string;
            summary: string;
            title: string;
        };
        TerminateRequest: {
            instances: string[];
        };
        Token: {
            /** Format: date-time */
            created: string;
            /** Format: date-time */
            expires: string;
            id: string;
            name: string;
            scope: string;
            /** Format: date-time */
            used?: string;
        };
        TOTP: {
            /** Format: int64 */
            recovery: number;
            /** Format: date-time */
            since: string;
        };
        Upload: {
            /** Format: int64 */
            bytes: number;
            /** Format: date-time */
            expires: string;
            filename: string;
            id: string;
            /** Format: int64 */
            offset: number;
        };
        UsePasskey: {
            ceremony: string;
            credential: Json;
        };
        User: {
            admin: boolean;
            affiliation: string;
            /** Format: date-time */
            created: string;
            /** Format: int64 */
            credit: number;
            email: string;
            first_name: string;
            /** Format: int64 */
            id: number;
            last_name: string;
            name: string;
            second_factor: boolean;
        };
        Variable: {
            name: string;
            secret?: boolean;
            value: string;
        };
        Version: {
            /** Format: int64 */
            bin_seconds: number;
            binary_sha256: string;
            /**
             * Format: date-time
             * @description when the first certificate of the installation's authority ends; that of its instances is made anew long before
             */
            ca_expires: string;
            go: string;
            installation: string;
            revision: string;
            version: string;
        };
        Visit: {
            address: string;
            /** Format: date-time */
            seen: string;
            user: string;
        };
        Volume: {
            /** Format: int64 */
            application: number;
            /** Format: int64 */
            bytes: number;
            cloud: string;
            /** Format: date-time */
            created: string;
            id: string;
            instance?: string;
            name: string;
            part?: string;
            reason?: string;
            /** Format: int64 */
            service: number;
            /** Format: date-time */
            since: string;
            snapshots: components["schemas"]["Snapshot"][];
            /** @enum {string} */
            state: "asked" | "free" | "attached" | "leaving" | "error";
            /** Format: int64 */
            used: number;
        };
        VolumesRequest: {
            instance: string;
            parts: string[];
            /** Format: int64 */
            service: number;
        };
        Weights: {
            weights: {
                [key: string]: {
                    [key: string]: number;
                };
            };
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export type operations = Record<string, never>;
