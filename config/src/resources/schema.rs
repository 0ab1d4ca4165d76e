//! The registries of resource fields, one a kind.

use crate::schema::{Choice, Key, Kind, RECORDING_MODE, SESSION_MFA, Schema, count, key, required};

/// Teleport's conditions that don't concern desktops.
const FOREIGN_CONDITIONS: &[&str] = &[
    "app_labels",
    "cluster_labels",
    "db_labels",
    "db_service_labels",
    "group_labels",
    "kubernetes_labels",
    "node_labels",
    "workload_identity_labels",
    "linux_desktop_labels",
    "logins",
    "linux_desktop_logins",
    "aws_role_arns",
    "azure_identities",
    "gcp_service_accounts",
    "github_permissions",
    "db_names",
    "db_users",
    "db_roles",
    "db_permissions",
    "kubernetes_groups",
    "kubernetes_users",
    "kubernetes_resources",
    "host_groups",
    "host_sudoers",
    "impersonate",
    "join_sessions",
    "require_session_join",
    "request",
    "review_requests",
    "account_assignments",
    "mcp",
    "spiffe",
    "desktop_groups",
];

/// Teleport's options that don't concern desktops, or that nothing here could honour and nobody is less safe without.
const FOREIGN_OPTIONS: &[&str] = &[
    "forward_agent",
    "port_forwarding",
    "ssh_port_forwarding",
    "ssh_file_copy",
    "permit_x11_forwarding",
    "max_sessions",
    "max_kubernetes_connections",
    "enhanced_recording",
    "cert_format",
    "cert_extensions",
    "create_host_user",
    "create_host_user_mode",
    "create_host_user_default_shell",
    "create_db_user",
    "create_db_user_mode",
    "idp",
    "request_access",
    "request_prompt",
    "pin_source_ip",
    "disconnect_expired_cert",
    "mfa_verification_interval",
];

/// What every resource may say that means nothing here.
const IGNORED: (&str, &[&str]) = ("", &["status"]);

const fn text(path: &'static str) -> Key {
    key(path, Kind::Free, "null")
}

const fn flag(path: &'static str) -> Key {
    key(path, Kind::Bool, "null")
}

/// `desktop` of `record_session`.
const VOTE: Kind = Kind::Choice(&Choice {
    words: &["true", "false", "strict", "best_effort"],
    on: "true",
    off: "false",
    numbers: false,
});

const CLIPBOARD: Kind = Kind::Choice(&Choice {
    words: &["both", "to_desktop", "from_desktop", "off"],
    on: "both",
    off: "off",
    numbers: false,
});

const STRICTNESS: Kind = Kind::Word(&["strict", "best_effort"]);
const INPUT: Kind = Kind::Word(&["none", "mouse", "all"]);
const CLIPBOARD_LEVEL: Kind = Kind::Word(&["none", "facts", "text"]);

/// Resource `role`.
#[rustfmt::skip]
pub(crate) static ROLE: Schema = Schema {
    noun: "field",
    keys: &[
        required("kind", Kind::Word(&["role"])),
        required("version", Kind::Word(&["v3", "v4", "v5", "v6", "v7"])),
        text("sub_kind"),
        required("metadata.name", Kind::Text),
        text("metadata.description"),
        key("metadata.labels", Kind::Labels, "{}"),
        key("metadata.expires", Kind::Time, "null"),
        text("metadata.namespace"),
        key("metadata.revision", Kind::Opaque, "null"),
        key("metadata.id", Kind::Opaque, "null"),
        key("spec.allow.windows_desktop_labels", Kind::Patterns, "{}"),
        text("spec.allow.windows_desktop_labels_expression"),
        key("spec.allow.windows_desktop_logins", Kind::Texts, "[]"),
        key("spec.allow.rules", Kind::Sections, "[]"),
        required("spec.allow.rules[].resources", Kind::Texts),
        required("spec.allow.rules[].verbs", Kind::Texts),
        text("spec.allow.rules[].where"),
        key("spec.allow.namespaces", Kind::Texts, "[]"),
        key("spec.deny.windows_desktop_labels", Kind::Patterns, "{}"),
        text("spec.deny.windows_desktop_labels_expression"),
        key("spec.deny.windows_desktop_logins", Kind::Texts, "[]"),
        key("spec.deny.rules", Kind::Sections, "[]"),
        required("spec.deny.rules[].resources", Kind::Texts),
        required("spec.deny.rules[].verbs", Kind::Texts),
        text("spec.deny.rules[].where"),
        key("spec.deny.namespaces", Kind::Texts, "[]"),
        key("spec.options.record_session.desktop", VOTE, "null"),
        key("spec.options.record_session.default", STRICTNESS, "null"),
        key("spec.options.record_session.input", INPUT, "null"),
        key("spec.options.record_session.clipboard", CLIPBOARD_LEVEL, "null"),
        key("spec.options.desktop_clipboard", CLIPBOARD, "null"),
        flag("spec.options.desktop_directory_sharing"),
        flag("spec.options.desktop_printer"),
        flag("spec.options.desktop_smart_card"),
        flag("spec.options.desktop_serial_port"),
        flag("spec.options.desktop_usb"),
        flag("spec.options.desktop_audio_output"),
        flag("spec.options.desktop_audio_input"),
        flag("spec.options.desktop_camera"),
        flag("spec.options.desktop_other_channels"),
        key("spec.options.max_session_ttl", Kind::Limit, "null"),
        key("spec.options.client_idle_timeout", Kind::Limit, "null"),
        key("spec.options.max_connections", count(0, 4_294_967_295), "null"),
        key("spec.options.lock", STRICTNESS, "null"),
        key("spec.options.require_session_mfa", SESSION_MFA, "null"),
        key("spec.options.device_trust_mode", Kind::Word(&["off", "optional", "required"]), "null"),
        flag("spec.options.create_desktop_user"),
    ],
    scalar_forms: &[],
    later: &[],
    foreign: &[
        ("spec.allow", FOREIGN_CONDITIONS),
        ("spec.deny", FOREIGN_CONDITIONS),
        ("spec.allow.rules[]", &["actions"]),
        ("spec.deny.rules[]", &["actions"]),
        ("spec.options", FOREIGN_OPTIONS),
        ("spec.options.record_session", &["ssh"]),
    ],
    ignored: &[IGNORED],
};

/// Resource `user`.
#[rustfmt::skip]
pub(crate) static USER: Schema = Schema {
    noun: "field",
    keys: &[
        required("kind", Kind::Word(&["user"])),
        required("version", Kind::Word(&["v2"])),
        text("sub_kind"),
        required("metadata.name", Kind::Text),
        text("metadata.description"),
        key("metadata.labels", Kind::Labels, "{}"),
        key("metadata.expires", Kind::Time, "null"),
        text("metadata.namespace"),
        key("metadata.revision", Kind::Opaque, "null"),
        key("metadata.id", Kind::Opaque, "null"),
        key("spec.roles", Kind::Texts, "[]"),
        key("spec.traits", Kind::Patterns, "{}"),
        flag("spec.status.is_locked"),
        key("spec.status.lock_expires", Kind::Time, "null"),
        key("spec.expires", Kind::Time, "null"),
    ],
    scalar_forms: &[],
    later: &[],
    foreign: &[("spec", &["local_auth"])],
    ignored: &[
        IGNORED,
        ("spec", &["github_identities", "oidc_identities", "saml_identities", "trusted_device_ids", "created_by"]),
        ("spec.status", &["locked_message", "locked_time", "recovery_attempt_lock_expires", "password_state", "mfa_weakest_device"]),
    ],
};

/// Resource `windows_desktop`.
#[rustfmt::skip]
pub(crate) static DESKTOP: Schema = Schema {
    noun: "field",
    keys: &[
        required("kind", Kind::Word(&["windows_desktop"])),
        required("version", Kind::Word(&["v3"])),
        text("sub_kind"),
        required("metadata.name", Kind::Text),
        text("metadata.description"),
        key("metadata.labels", Kind::Labels, "{}"),
        key("metadata.expires", Kind::Time, "null"),
        text("metadata.namespace"),
        key("metadata.revision", Kind::Opaque, "null"),
        key("metadata.id", Kind::Opaque, "null"),
        required("spec.addr", Kind::Text),
        text("spec.domain"),
        key("spec.non_ad", Kind::Bool, "false"),
        key("spec.screen_size.width", count(0, 8192), "null"),
        key("spec.screen_size.height", count(0, 8192), "null"),
        key("spec.record_session.desktop", VOTE, "null"),
        key("spec.gateway.tls.verify", Kind::Word(&["pin", "ca", "none"]), "pin"),
        key("spec.gateway.tls.sha256", Kind::Sha256, "null"),
        key("spec.gateway.tls.ca", Kind::Path, "null"),
        key("spec.gateway.security", Kind::Word(&["auto", "nla", "tls"]), "auto"),
        key("spec.gateway.credentials.mode", Kind::Word(&["passthrough"]), "null"),
        key("spec.gateway.credentials.logins", Kind::Sections, "[]"),
        required("spec.gateway.credentials.logins[].login", Kind::Text),
        text("spec.gateway.credentials.logins[].domain"),
        required("spec.gateway.credentials.logins[].password", Kind::Secret),
        key("spec.gateway.bulk_compression", Kind::Word(&["keep", "clear"]), "keep"),
        key("spec.gateway.graphics", Kind::Word(&["auto", "legacy", "gfx"]), "null"),
    ],
    scalar_forms: &[("spec.gateway.credentials", "mode")],
    later: &["spec.gateway.channels"],
    foreign: &[],
    ignored: &[IGNORED, ("spec", &["host_id"])],
};

/// Resource `session_recording_config`.
#[rustfmt::skip]
pub(crate) static RECORDING: Schema = Schema {
    noun: "field",
    keys: &[
        required("kind", Kind::Word(&["session_recording_config"])),
        required("version", Kind::Word(&["v2"])),
        text("sub_kind"),
        text("metadata.name"),
        text("metadata.description"),
        key("metadata.labels", Kind::Labels, "{}"),
        key("metadata.expires", Kind::Time, "null"),
        text("metadata.namespace"),
        key("metadata.revision", Kind::Opaque, "null"),
        key("metadata.id", Kind::Opaque, "null"),
        key("spec.mode", RECORDING_MODE, "on"),
        key("spec.on_failure", STRICTNESS, "strict"),
        key("spec.input", INPUT, "all"),
        key("spec.clipboard", CLIPBOARD_LEVEL, "text"),
        flag("spec.proxy_checks_host_keys"),
        flag("spec.encryption.enabled"),
        key("spec.encryption.manual_key_management", Kind::Settings, "null"),
    ],
    scalar_forms: &[],
    later: &[],
    foreign: &[],
    ignored: &[IGNORED],
};

/// Resource `lock`.
#[rustfmt::skip]
pub(crate) static LOCK: Schema = Schema {
    noun: "field",
    keys: &[
        required("kind", Kind::Word(&["lock"])),
        required("version", Kind::Word(&["v2"])),
        text("sub_kind"),
        required("metadata.name", Kind::Text),
        text("metadata.description"),
        key("metadata.labels", Kind::Labels, "{}"),
        key("metadata.expires", Kind::Time, "null"),
        text("metadata.namespace"),
        key("metadata.revision", Kind::Opaque, "null"),
        key("metadata.id", Kind::Opaque, "null"),
        text("spec.target.user"),
        text("spec.target.role"),
        text("spec.target.windows_desktop"),
        text("spec.target.login"),
        text("spec.message"),
        key("spec.expires", Kind::Time, "null"),
    ],
    scalar_forms: &[],
    later: &[],
    foreign: &[(
        "spec.target",
        &["server_id", "node", "mfa_device", "access_request", "device", "bot_instance_id", "join_token", "linux_desktop"],
    )],
    ignored: &[IGNORED, ("spec", &["created_at", "created_by"])],
};
