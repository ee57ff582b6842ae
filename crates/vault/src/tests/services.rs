//! Key services that fail midway (K8).

use std::time::Duration;

use super::house::{DAY, Fate, House, NOW};
use crate::{
    ServiceClass, VaultError,
    rotation::{Action, Progress, RotationError},
};

/// Fails at every call in turn; each time the rotation stops with what is committed, opens to the same, and goes on.
async fn survives(fate: Fate, action: Action) {
    let house = House::with(23).await;
    house.real(Action::Reseal, NOW).await;
    let texts = house.texts().await;
    let (mut progress, mut stops) = (Progress::default(), 0);
    for calls in 0.. {
        house.service.fail_after(calls, fate);
        let went = house.go_on(action, NOW, &mut progress).await;
        house.service.mend();
        assert_eq!(house.texts().await, texts, "after {calls} calls");
        match went {
            Ok((counts, faults)) => {
                assert!(faults.is_empty() && counts.rotated > 0, "{counts:?} {faults:?}");
                break;
            }
            Err(RotationError::Vault(VaultError::Service(error))) => {
                let expected = match fate {
                    Fate::Down => ServiceClass::Transient,
                    Fate::Throttled => ServiceClass::Throttled(Duration::from_secs(3)),
                    Fate::Revoked => ServiceClass::Configuration,
                };
                assert_eq!(error.class(), expected);
                stops += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(stops > 1, "the service was never in the way");
    let again = house.real(action, DAY).await;
    assert_eq!((again.rotated, again.undecryptable), (0, 0));
}

#[tokio::test]
async fn k8_a_key_service_that_is_down_at_any_call_leaves_no_partial_value() {
    survives(Fate::Down, Action::Reseal).await;
    survives(Fate::Down, Action::Rewrap).await;
}

#[tokio::test]
async fn k8_a_key_service_that_throttles_at_any_call_is_told_as_that() {
    survives(Fate::Throttled, Action::Reseal).await;
}

#[tokio::test]
async fn k8_a_key_that_is_revoked_at_any_call_is_a_matter_for_its_owner() {
    survives(Fate::Revoked, Action::Reseal).await;
    survives(Fate::Revoked, Action::Rewrap).await;
}
