//! What can go wrong with the management interface.

/// What can go wrong with the management interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManagementError {
    /// The address cannot be one.
    #[error(
        "not the address of a management interface: {reason}; it is `http://USER:PASSWORD@HOST:15672`"
    )]
    Address {
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers there.
    #[error(
        "the management interface of the broker does not answer at {url}: {reason}; is the plugin on \
         (`rabbitmq-plugins enable rabbitmq_management`), and the port right (15672 is usual)?"
    )]
    Unreachable {
        /// The address, without the password.
        url: String,
        /// What was seen.
        reason: String,
    },
    /// It does not know the user, or the password is wrong.
    #[error(
        "the broker refuses the user `{user}`: wrong name, wrong password, or not tagged for management"
    )]
    Login {
        /// The user.
        user: String,
    },
    /// The user may not do this.
    #[error("the user `{user}` may not {doing}; it needs the tag `administrator`")]
    Denied {
        /// The user.
        user: String,
        /// What was tried.
        doing: String,
    },
    /// Something exists that cannot be changed into what is needed.
    #[error(
        "{what} exists, but is {found}; it cannot be changed: when it is empty, delete it and apply again"
    )]
    Conflict {
        /// What: queue `longshore.signals` (quorum).
        what: String,
        /// How it is instead.
        found: String,
    },
    /// It answered something else than we expect.
    #[error("the management interface could not {doing}: {answer}")]
    Answer {
        /// What was tried.
        doing: String,
        /// The status and the first words of the answer.
        answer: String,
    },
}

impl ManagementError {
    /// Whether the same call may succeed later.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}
