//! Limits of the languages inside resources, by the names that the documentation gives them.

/// Longest expression, template or pattern, in bytes.
pub const EXPRESSION_MAX_BYTES: usize = 8 << 10;

/// Deepest nesting of an expression or template.
pub const EXPRESSION_DEPTH_MAX: usize = 64;

/// Largest compiled regex, in bytes.
pub const REGEX_MAX_BYTES: usize = 1 << 20;

/// Roles of one user; who has more is refused.
pub const ROLES_PER_USER_MAX: usize = 256;
