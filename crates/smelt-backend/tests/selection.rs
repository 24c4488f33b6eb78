//! Selection of a backend: named, automatic, refused.

use smelt_backend::{BackendError, Name, Precision, Reason, Request, in_build, select, survey, trains_in};

#[test]
fn auto_takes_the_first_that_serves_and_says_why_not_the_others() {
    let selection = select(&Request::default()).expect("the cpu always serves");
    assert!(in_build().contains(&selection.name));
    let before = Name::PREFERENCE.iter().take_while(|name| **name != selection.name).count();
    assert_eq!(selection.rejected.len(), before);
    if before > 0 {
        assert!(selection.to_string().starts_with(&format!("backend: {} (", selection.name)));
    }
}

#[test]
fn a_named_backend_is_never_replaced() {
    for name in Name::ALL {
        let outcome = select(&Request { name: Some(name), ..Request::default() });
        match outcome {
            Ok(selection) => assert_eq!(selection.name, name),
            Err(BackendError::NotInBuild { name: refused }) => {
                assert_eq!(refused, name);
                assert!(!in_build().contains(&name));
            }
            Err(BackendError::Unusable { name: refused, .. }) => assert_eq!(refused, name),
            Err(error) => panic!("unexpected: {error}"),
        }
    }
}

#[test]
fn work_that_does_not_fit_is_refused_with_its_size() {
    let request = Request { required_bytes: Some(u64::MAX), ..Request::default() };
    let Err(BackendError::NoneLeft { rejected }) = select(&request) else { panic!("nothing holds 16 EiB") };
    assert!(rejected.iter().any(|(_, reason)| matches!(reason, Reason::TooSmall { .. })));
}

#[test]
fn unknown_names_list_the_known_ones() {
    let error = "mps".parse::<Name>().expect_err("mps is torch's word");
    assert!(error.to_string().contains("metal"), "{error}");
}

#[test]
fn the_survey_covers_every_backend_and_the_build_passes_its_self_test() {
    let reports = survey();
    assert_eq!(reports.len(), Name::ALL.len());
    for report in reports {
        assert_eq!(report.in_build, in_build().contains(&report.name));
        if matches!(report.name, Name::Cpu | Name::Ndarray | Name::Candle) && report.in_build {
            assert_eq!(report.self_test, Some(true), "{:?}", report.reason);
            assert!(report.memory_total_bytes.is_some_and(|bytes| bytes > 1 << 28));
        }
    }
}

#[test]
fn a_backend_that_does_not_train_in_16_bits_says_so() {
    for name in in_build() {
        let request = Request { name: Some(name), precision: Precision::Bf16, ..Request::default() };
        match select(&request) {
            Err(BackendError::Unusable { reason: Reason::Precision(Precision::Bf16), .. }) => {
                assert!(!trains_in(name, Precision::Bf16));
                assert!(trains_in(name, Precision::F32));
            }
            Ok(_) => assert!(trains_in(name, Precision::Bf16)),
            // No device.
            Err(_) => {}
        }
    }
    if let Ok(selection) = select(&Request { precision: Precision::F16, ..Request::default() }) {
        assert!(trains_in(selection.name, Precision::F16), "`auto` passes over those that cannot");
    }
}
