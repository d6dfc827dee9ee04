//! Every configuration holds, and each protection that is taken away is found out.

use larder_model::protections::{Removable, Removed};
use larder_model::scenes::proofs::{ALL, IN_FEED, IN_TIERS, ON_CLUSTER};
use larder_model::scenes::{Config, Size, configs};

#[test]
fn every_configuration_keeps_every_promise() {
    for config in configs() {
        let report = config.check(Size::Small, Removed::default(), 2);
        if let Some(violation) = report.violation {
            panic!("{}: {violation}", config.name);
        }
        for name in config.reaches {
            assert!(report.reached.contains(name), "{}: never \"{name}\", so it shows nothing", config.name);
        }
    }
}

#[test]
fn each_protection_that_is_taken_away_is_found_out() {
    for (removable, name) in ALL.iter().chain(ON_CLUSTER).chain(IN_FEED).chain(IN_TIERS) {
        let config = Config::named(name).unwrap();
        let found = config.check(Size::Small, Removed::default().and(*removable), 2).violation;
        let found = found.unwrap_or_else(|| panic!("{name} without {removable} keeps every promise"));
        assert!(!found.steps.is_empty());
    }
}

#[test]
fn there_is_a_proof_for_each() {
    for removable in Removable::ALL {
        assert!(ALL.iter().any(|(proven, _)| proven == removable), "{removable}");
    }
}

#[test]
fn a_counterexample_is_told_step_by_step() {
    let config = Config::named("values").unwrap();
    let told = config.shortest(Size::Small, Removed::default().and(Removable::Fence)).unwrap().to_string();
    for words in
        ["broken: C3", "takes its ticket (epoch 1, sequence 0)", "which is stored", "then: stored: P v0 (lists h)"]
    {
        assert!(told.contains(words), "{told}");
    }
}
