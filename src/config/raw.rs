//! The settings as strings: one flag and one environment variable each.

use std::env;

use clap::Args;

/// Settings as they were given. Each is a flag in kebab case or an environment variable; the flag wins.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Settings")]
pub struct RawConfig {
    /// Origin that users see, e.g. `https://k8s.example.com`; the redirect URI is this with /callback
    #[arg(long, env = "ENTRADA_PUBLIC_URL", hide_env_values = true)]
    pub public_url: Option<String>,
    /// Where clients connect [default: 0.0.0.0:8443]
    #[arg(long, env = "ENTRADA_LISTEN", hide_env_values = true)]
    pub listen: Option<String>,
    /// `off` where TLS ends in front of Entrada [default: on]
    #[arg(long, env = "ENTRADA_TLS", hide_env_values = true)]
    pub tls: Option<String>,
    /// Certificate chain in PEM, leaf first; re-read when it changes. Several files are separated by commas
    #[arg(long, env = "ENTRADA_TLS_CERT_FILE", hide_env_values = true)]
    pub tls_cert_file: Option<String>,
    /// Private key in PEM; re-read when it changes. Of several, the n-th is that of the n-th certificate
    #[arg(long, env = "ENTRADA_TLS_KEY_FILE", hide_env_values = true)]
    pub tls_key_file: Option<String>,
    /// Liveness, readiness and metrics, plain HTTP [default: 0.0.0.0:9090]
    #[arg(long, env = "ENTRADA_ADMIN_LISTEN", hide_env_values = true)]
    pub admin_listen: Option<String>,
    /// The API server [default: `https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT`]
    #[arg(long, env = "ENTRADA_API_SERVER_URL", hide_env_values = true)]
    pub api_server_url: Option<String>,
    /// PEM of the API server's authority [default: the pod's usual ca.crt]
    #[arg(long, env = "ENTRADA_API_SERVER_CA_FILE", hide_env_values = true)]
    pub api_server_ca_file: Option<String>,
    /// The tenant's GUID
    #[arg(long, env = "AZURE_TENANT_ID", hide_env_values = true)]
    pub azure_tenant_id: Option<String>,
    /// The app registration's client id
    #[arg(long, env = "AZURE_CLIENT_ID", hide_env_values = true)]
    pub azure_client_id: Option<String>,
    /// The pod's projected token, our identity towards Entra
    #[arg(long, env = "AZURE_FEDERATED_TOKEN_FILE", hide_env_values = true)]
    pub azure_federated_token_file: Option<String>,
    /// The cloud's sign-in host [default: `https://login.microsoftonline.com/`]
    #[arg(long, env = "AZURE_AUTHORITY_HOST", hide_env_values = true)]
    pub azure_authority_host: Option<String>,
    /// Extra trust root for the sign-in host, PEM
    #[arg(long, env = "ENTRADA_ENTRA_CA_FILE", hide_env_values = true)]
    pub entra_ca_file: Option<String>,
    /// One call to the sign-in host [default: 15s]
    #[arg(long, env = "ENTRADA_ENTRA_TIMEOUT", hide_env_values = true)]
    pub entra_timeout: Option<String>,
    /// Where sessions live: `memory`, `redis://…`, `redis-cluster://…`, `redis-sentinel://…` [default: memory]
    #[arg(long, env = "ENTRADA_STORE", hide_env_values = true)]
    pub store: Option<String>,
    /// The user of the store's access list
    #[arg(long, env = "ENTRADA_STORE_USERNAME", hide_env_values = true)]
    pub store_username: Option<String>,
    /// The store's password; re-read when it changes
    #[arg(long, env = "ENTRADA_STORE_PASSWORD_FILE", hide_env_values = true)]
    pub store_password_file: Option<String>,
    /// PEM of the store's authority [default: the public ones]
    #[arg(long, env = "ENTRADA_STORE_CA_FILE", hide_env_values = true)]
    pub store_ca_file: Option<String>,
    /// `entra`: log in to the store with the workload identity [default: password]
    #[arg(long, env = "ENTRADA_STORE_AUTH", hide_env_values = true)]
    pub store_auth: Option<String>,
    /// How long known sessions are served while the store is away [default: 60s]
    #[arg(long, env = "ENTRADA_STORE_STALENESS", hide_env_values = true)]
    pub store_staleness: Option<String>,
    /// Name in generated kubeconfigs [default: host of the public URL]
    #[arg(long, env = "ENTRADA_CLUSTER_NAME", hide_env_values = true)]
    pub cluster_name: Option<String>,
    /// PEM that clients need to trust the public certificate; goes into kubeconfigs
    #[arg(long, env = "ENTRADA_PUBLIC_CA_FILE", hide_env_values = true)]
    pub public_ca_file: Option<String>,
    /// Folder with `token.yaml` or `plugin.yaml`, to be used instead of the program's kubeconfig templates
    #[arg(long, env = "ENTRADA_KUBECONFIG_TEMPLATES", hide_env_values = true)]
    pub kubeconfig_templates: Option<String>,
    /// A session's cap from sign-in [default: 7d]
    #[arg(long, env = "ENTRADA_SESSION_LIFETIME", hide_env_values = true)]
    pub session_lifetime: Option<String>,
    /// How long a browser cookie may stay unused [default: 24h]
    #[arg(long, env = "ENTRADA_COOKIE_IDLE", hide_env_values = true)]
    pub cookie_idle: Option<String>,
    /// Default and maximum lifetime of a proxy token [default: 30d]
    #[arg(long, env = "ENTRADA_TOKEN_LIFETIME", hide_env_values = true)]
    pub token_lifetime: Option<String>,
    /// `off`: no token is handed over through the browser of the same computer [default: on]
    #[arg(long, env = "ENTRADA_LOOPBACK_LOGIN", hide_env_values = true)]
    pub loopback_login: Option<String>,
    /// `off`: no token is handed over by a code that is typed in on another device [default: on]
    #[arg(long, env = "ENTRADA_DEVICE_LOGIN", hide_env_values = true)]
    pub device_login: Option<String>,
    /// Lifetime of a token that is handed over to a computer [default: 12h]
    #[arg(long, env = "ENTRADA_CLI_TOKEN_LIFETIME", hide_env_values = true)]
    pub cli_token_lifetime: Option<String>,
    /// `ask`: dormant tokens can be armed on the portal; `off`: they stay so [default: ask]
    #[arg(long, env = "ENTRADA_REARM", hide_env_values = true)]
    pub rearm: Option<String>,
    /// Where a sign-out ends: `here`, or `entra` to sign out there too [default: here]
    #[arg(long, env = "ENTRADA_SIGN_OUT", hide_env_values = true)]
    pub sign_out: Option<String>,
    /// Requests of one user, e.g. `50/s burst 300` [default: off]
    #[arg(long, env = "ENTRADA_RATE_LIMIT", hide_env_values = true)]
    pub rate_limit: Option<String>,
    /// Sign-ins from one address, e.g. `1/s burst 30` [default: off]
    #[arg(long, env = "ENTRADA_SIGNIN_RATE_LIMIT", hide_env_values = true)]
    pub signin_rate_limit: Option<String>,
    /// Ordinary requests of one user that are under way at once [default: 400]
    #[arg(long, env = "ENTRADA_MAX_REQUESTS_PER_USER", hide_env_values = true)]
    pub max_requests_per_user: Option<String>,
    /// Open streams of one user [default: 1000]
    #[arg(long, env = "ENTRADA_MAX_STREAMS_PER_USER", hide_env_values = true)]
    pub max_streams_per_user: Option<String>,
    /// Open client connections [default: what the file limit carries]
    #[arg(long, env = "ENTRADA_MAX_CONNECTIONS", hide_env_values = true)]
    pub max_connections: Option<String>,
    /// Open client connections of one address [default: unlimited]
    #[arg(long, env = "ENTRADA_MAX_CONNECTIONS_PER_ADDRESS", hide_env_values = true)]
    pub max_connections_per_address: Option<String>,
    /// Connections to the API server in use [default: what the file limit carries]
    #[arg(long, env = "ENTRADA_MAX_UPSTREAM_CONNECTIONS", hide_env_values = true)]
    pub max_upstream_connections: Option<String>,
    /// TLS handshake [default: 10s]
    #[arg(long, env = "ENTRADA_HANDSHAKE_TIMEOUT", hide_env_values = true)]
    pub handshake_timeout: Option<String>,
    /// A request's head, from its first byte [default: 20s]
    #[arg(long, env = "ENTRADA_HEAD_TIMEOUT", hide_env_values = true)]
    pub head_timeout: Option<String>,
    /// Between two requests on one connection [default: 180s]
    #[arg(long, env = "ENTRADA_IDLE_TIMEOUT", hide_env_values = true)]
    pub idle_timeout: Option<String>,
    /// To connect to the API server [default: 10s]
    #[arg(long, env = "ENTRADA_CONNECT_TIMEOUT", hide_env_values = true)]
    pub connect_timeout: Option<String>,
    /// The API server's answer's head; not for streams [default: 70s]
    #[arg(long, env = "ENTRADA_RESPONSE_TIMEOUT", hide_env_values = true)]
    pub response_timeout: Option<String>,
    /// An answer, or a request's body, that stands still; not for streams [default: 5m]
    #[arg(long, env = "ENTRADA_STALL_TIMEOUT", hide_env_values = true)]
    pub stall_timeout: Option<String>,
    /// Request line and header fields, in bytes [default: 131072]
    #[arg(long, env = "ENTRADA_MAX_HEAD_BYTES", hide_env_values = true)]
    pub max_head_bytes: Option<String>,
    /// Streams on one HTTP/2 connection [default: 250]
    #[arg(long, env = "ENTRADA_MAX_H2_STREAMS", hide_env_values = true)]
    pub max_h2_streams: Option<String>,
    /// HTTP/2 streams reset before they were looked at [default: 50]
    #[arg(long, env = "ENTRADA_MAX_H2_RESETS", hide_env_values = true)]
    pub max_h2_resets: Option<String>,
    /// Body of a request to Entrada's own pages, in bytes [default: 65536]
    #[arg(long, env = "ENTRADA_MAX_BODY_BYTES", hide_env_values = true)]
    pub max_body_bytes: Option<String>,
    /// Origins (exact, comma-separated) whose pages may use the API with the user's cookie [default: none]
    #[arg(long, env = "ENTRADA_ALLOWED_ORIGINS", hide_env_values = true)]
    pub allowed_origins: Option<String>,
    /// Dashboards on hosts of their own: `https://headlamp.example.com=https://headlamp.headlamp.svc`, comma-separated
    #[arg(long, env = "ENTRADA_MOUNTS", hide_env_values = true)]
    pub mounts: Option<String>,
    /// Networks (CIDR, comma-separated) whose Forwarded and X-Forwarded-* are believed [default: none]
    #[arg(long, env = "ENTRADA_TRUSTED_PROXIES", hide_env_values = true)]
    pub trusted_proxies: Option<String>,
    /// Window of a graceful stop [default: 25s]
    #[arg(long, env = "ENTRADA_DRAIN", hide_env_values = true)]
    pub drain: Option<String>,
    /// `true`: no spans, whatever else is set [default: false]
    #[arg(long, env = "OTEL_SDK_DISABLED", hide_env_values = true)]
    pub otel_sdk_disabled: Option<String>,
    /// `none`: no spans, whatever else is set [default: otlp]
    #[arg(long, env = "OTEL_TRACES_EXPORTER", hide_env_values = true)]
    pub otel_traces_exporter: Option<String>,
    /// The collector that spans go to, e.g. `http://collector.observability:4318`; /v1/traces is added to it
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true)]
    pub otel_exporter_otlp_endpoint: Option<String>,
    /// The same with its whole path, used as it is
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", hide_env_values = true)]
    pub otel_exporter_otlp_traces_endpoint: Option<String>,
    /// The one protocol that is spoken [default: http/protobuf]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_PROTOCOL", hide_env_values = true)]
    pub otel_exporter_otlp_protocol: Option<String>,
    /// Headers for the collector, e.g. `api-key=…,other=…`; may hold a secret
    #[arg(long, env = "OTEL_EXPORTER_OTLP_HEADERS", hide_env_values = true)]
    pub otel_exporter_otlp_headers: Option<String>,
    /// One call to the collector, in milliseconds [default: 10000]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TIMEOUT", hide_env_values = true)]
    pub otel_exporter_otlp_timeout: Option<String>,
    /// PEM of the collector's authority [default: the public ones]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CERTIFICATE", hide_env_values = true)]
    pub otel_exporter_otlp_certificate: Option<String>,
    /// `service.name` of all spans [default: entrada]
    #[arg(long, env = "OTEL_SERVICE_NAME", hide_env_values = true)]
    pub otel_service_name: Option<String>,
    /// More attributes of all spans, e.g. `deployment.environment.name=prod,team=a`
    #[arg(long, env = "OTEL_RESOURCE_ATTRIBUTES", hide_env_values = true)]
    pub otel_resource_attributes: Option<String>,
    /// Which requests have spans [default: parentbased_always_on]
    #[arg(long, env = "OTEL_TRACES_SAMPLER", hide_env_values = true)]
    pub otel_traces_sampler: Option<String>,
    /// The share, from 0 to 1, for the samplers that take one [default: 1]
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", hide_env_values = true)]
    pub otel_traces_sampler_arg: Option<String>,
    /// Which events are logged: a level, or a list such as `warn,entrada=debug` [default: warn,entrada=info]
    #[arg(long, env = "ENTRADA_LOG", hide_env_values = true)]
    pub log: Option<String>,
    /// Where audit events go: `off`, `stdout`, `file:<path>` or `https://…` [default: off]
    #[arg(long, env = "ENTRADA_AUDIT", hide_env_values = true)]
    pub audit: Option<String>,
    /// Which are recorded: an audit.k8s.io/v1 Policy in YAML or JSON [default: everything]
    #[arg(long, env = "ENTRADA_AUDIT_POLICY_FILE", hide_env_values = true)]
    pub audit_policy_file: Option<String>,
    /// `on`: a request that cannot be recorded is refused [default: off]
    #[arg(long, env = "ENTRADA_AUDIT_STRICT", hide_env_values = true)]
    pub audit_strict: Option<String>,
    /// Events that wait for the sink, in bytes [default: 16777216]
    #[arg(long, env = "ENTRADA_AUDIT_QUEUE_BYTES", hide_env_values = true)]
    pub audit_queue_bytes: Option<String>,
    /// Size of the audit file before it is put aside [default: 104857600]
    #[arg(long, env = "ENTRADA_AUDIT_FILE_BYTES", hide_env_values = true)]
    pub audit_file_bytes: Option<String>,
    /// Audit files that were put aside and are kept [default: 10]
    #[arg(long, env = "ENTRADA_AUDIT_FILES", hide_env_values = true)]
    pub audit_files: Option<String>,
    /// PEM of the webhook's authority [default: the public ones]
    #[arg(long, env = "ENTRADA_AUDIT_CA_FILE", hide_env_values = true)]
    pub audit_ca_file: Option<String>,
    /// Bearer token for the webhook; read anew for each batch
    #[arg(long, env = "ENTRADA_AUDIT_TOKEN_FILE", hide_env_values = true)]
    pub audit_token_file: Option<String>,
    /// Set by Kubernetes in every pod
    #[arg(long, env = "KUBERNETES_SERVICE_HOST", hide = true, hide_env_values = true)]
    pub kubernetes_service_host: Option<String>,
    /// Set by Kubernetes in every pod
    #[arg(long, env = "KUBERNETES_SERVICE_PORT", hide = true, hide_env_values = true)]
    pub kubernetes_service_port: Option<String>,
    /// The names of all environment variables, to find those that no setting has
    #[arg(skip)]
    pub environment: Vec<String>,
}

impl RawConfig {
    /// The same settings, of a process whose environment is looked through for names that no setting has.
    #[must_use]
    pub fn in_this_environment(self) -> Self {
        let environment = env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        Self { environment, ..self }
    }
}
