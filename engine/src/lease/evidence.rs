//! When a dead node's shards need not wait for their leases to run out.
//!
//! A process that is killed leaves traces that a silent network does not: its machine *refuses* connections
//! to its ports, its sessions end by FIN or RST, and the ledger has no session of it any more. All of them
//! together, and nothing less: a cut cable, a pause, a full firewall and a busy machine look alike from
//! here, and each of them leaves something silent. Only a port at which nobody but its own machine can
//! knock has nothing to say, and is left out.

/// What came of connecting to one of a node's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knock {
    /// The machine answers that nobody listens.
    Refused,
    /// Somebody accepted.
    Answered,
    /// Nothing came back in time, or the network says that there is no way.
    Silent,
    /// The node has said that only its own machine can knock there. It speaks neither for a death nor against it.
    Private,
}

/// What became of this node's session with the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerSession {
    Open,
    /// By FIN or RST, from the other side.
    Ended,
    /// Given up here, or there never was one.
    Silent,
}

/// Whether the ledger has sessions under the owner's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerSessions {
    Some,
    None,
    /// The ledger did not say.
    Unknown,
}

/// Everything that is known about an owner that seems to be dead. Gathered after the session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub public: Knock,
    pub ops: Knock,
    pub peer: Knock,
    pub session: PeerSession,
    pub ledger: LedgerSessions,
}

impl Evidence {
    /// Whether the owner is dead beyond doubt, so that its leases may be taken at once `where epoch = seen
    /// and owner = seen`. The peer port is open to every peer, so that one refusal at least is always among it.
    #[must_use]
    pub const fn proves_death(&self) -> bool {
        matches!(
            self,
            Self {
                public: Knock::Refused | Knock::Private,
                ops: Knock::Refused | Knock::Private,
                peer: Knock::Refused,
                session: PeerSession::Ended,
                ledger: LedgerSessions::None,
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_evidence_suffices_and_nothing_less() {
        let proof = Evidence {
            public: Knock::Refused,
            ops: Knock::Refused,
            peer: Knock::Refused,
            session: PeerSession::Ended,
            ledger: LedgerSessions::None,
        };
        assert!(proof.proves_death());
        for knock in [Knock::Silent, Knock::Answered] {
            assert!(!Evidence { public: knock, ..proof }.proves_death(), "{knock:?}");
            assert!(!Evidence { ops: knock, ..proof }.proves_death(), "{knock:?}");
            assert!(!Evidence { peer: knock, ..proof }.proves_death(), "{knock:?}");
        }
        let private = Evidence { public: Knock::Private, ops: Knock::Private, ..proof };
        assert!(private.proves_death(), "what nobody can knock at says nothing");
        assert!(!Evidence { peer: Knock::Private, ..proof }.proves_death());
        assert!(!Evidence { peer: Knock::Silent, ..private }.proves_death());
        for session in [PeerSession::Silent, PeerSession::Open] {
            assert!(!Evidence { session, ..proof }.proves_death(), "{session:?}");
        }
        for ledger in [LedgerSessions::Unknown, LedgerSessions::Some] {
            assert!(!Evidence { ledger, ..proof }.proves_death(), "{ledger:?}");
        }
    }
}
