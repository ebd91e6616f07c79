use super::*;
use crate::Secret;

const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

fn exchange(mechanism: ScramMechanism, known: &str, tried: &str) -> Result<(), ScramError> {
    let credential = ScramCredential::derive(mechanism, known, b"salt", ITERATIONS);
    let client = ScramClient::new(mechanism, "a=l,ice", Secret::new(tried), "client".to_owned());
    let first = ClientFirst::parse(&client.first())?;
    assert_eq!(first.user, "a=l,ice");
    let (server, challenge) = ScramServer::challenge(mechanism, &first, credential, "server");
    let (proved, proof) = client.prove(&challenge)?;
    proved.verify(&server.finish(&proof)?)
}

#[test]
fn a_right_password_is_proved_and_a_wrong_one_is_not() {
    for mechanism in ScramMechanism::ALL {
        assert_eq!(exchange(mechanism, "pencil", "pencil"), Ok(()));
        assert_eq!(exchange(mechanism, "pencil", "pencils"), Err(ScramError::Proof));
    }
}

/// The exchange of RFC 7677, section 3.
#[test]
fn the_example_of_the_rfc_comes_out_as_written() {
    let mechanism = ScramMechanism::Sha256;
    let nonce = "rOprNGfwEbeRWgbNEkqO";
    let client = ScramClient::new(mechanism, "user", Secret::new("pencil"), nonce.to_owned());
    assert_eq!(client.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let salt = message::decode("W22ZaJ0SNY7soEsUEjb6gQ==", "s").unwrap();
    let credential = ScramCredential::derive(mechanism, "pencil", &salt, ITERATIONS);
    let first = ClientFirst::parse(&client.first()).unwrap();
    let (server, challenge) =
        ScramServer::challenge(mechanism, &first, credential, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
    let (proved, proof) = client.prove(&challenge).unwrap();
    let expected = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    assert_eq!(String::from_utf8(proof.clone()).unwrap(), expected);
    let last = server.finish(&proof).unwrap();
    assert_eq!(last, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    proved.verify(&last).unwrap();
}

/// As librdkafka 2.0 does.
#[test]
fn a_client_may_repeat_its_own_part_of_the_nonce() {
    let mechanism = ScramMechanism::Sha256;
    let salted = mechanism.salted_password("pencil", b"salt", ITERATIONS);
    let credential = ScramCredential::of_salted(mechanism, &salted, b"salt", ITERATIONS.get());
    let first = ClientFirst::parse(b"n,,n=user,r=client").unwrap();
    let (server, challenge) = ScramServer::challenge(mechanism, &first, credential.clone(), "server");
    let unproved = "c=biws,r=clientclientserver";
    let signed = format!("n=user,r=client,{},{unproved}", String::from_utf8(challenge).unwrap());
    let signature = mechanism.sign(&credential.stored_key, signed.as_bytes());
    let proof = message::xor(&mechanism.sign(&salted, b"Client Key"), &signature);
    let last = format!("{unproved},p={}", message::encode(&proof));
    assert!(server.finish(last.as_bytes()).is_ok());
}

#[test]
fn a_proof_of_another_exchange_is_refused() {
    let mechanism = ScramMechanism::Sha256;
    let credential = ScramCredential::derive(mechanism, "pencil", b"salt", ITERATIONS);
    let client = ScramClient::new(mechanism, "user", Secret::new("pencil"), "client".to_owned());
    let first = ClientFirst::parse(&client.first()).unwrap();
    let (_, challenge) = ScramServer::challenge(mechanism, &first, credential.clone(), "one");
    let (_, overheard) = client.prove(&challenge).unwrap();
    let (server, _) = ScramServer::challenge(mechanism, &first, credential.clone(), "two");
    assert_eq!(server.finish(&overheard), Err(ScramError::Nonce));
    let renamed = String::from_utf8(overheard).unwrap().replace("clientone", "clienttwo");
    let (server, _) = ScramServer::challenge(mechanism, &first, credential, "two");
    assert_eq!(server.finish(renamed.as_bytes()), Err(ScramError::Proof));
}

#[test]
fn what_is_not_scram_is_refused() {
    let refused = |text: &str| ClientFirst::parse(text.as_bytes()).unwrap_err();
    assert_eq!(refused("p=tls-unique,,n=user,r=x"), ScramError::ChannelBinding);
    assert_eq!(refused("n,a=root,n=user,r=x"), ScramError::Authorization);
    for text in
        ["", "n", "n,,", "n,,n=user", "n,,n=,r=x", "n,,n=user,r=", "n,,m=x,n=user,r=x", "n,,n=a=5Db,r=x"]
    {
        assert!(matches!(refused(text), ScramError::Malformed(_)), "{text}");
    }
    assert!(ClientFirst::parse(&[0xff; 10]).is_err());
    assert!(ClientFirst::parse(format!("n,,n=user,r={}", "x".repeat(10_000)).as_bytes()).is_err());
}

#[test]
fn a_server_cannot_put_unbounded_work_on_a_client() {
    for iterations in ["1", "4095", "4294967295"] {
        let client =
            ScramClient::new(ScramMechanism::Sha256, "user", Secret::new("pencil"), "client".to_owned());
        let challenge = format!("r=clientserver,s=c2FsdA==,i={iterations}");
        assert!(matches!(client.prove(challenge.as_bytes()), Err(ScramError::Iterations(_))));
    }
}

#[test]
fn a_user_that_is_not_there_looks_the_same_each_time() {
    let pretended = |user, secret| ScramCredential::pretended(ScramMechanism::Sha512, user, secret);
    assert_eq!(pretended("a", b"one"), pretended("a", b"one"));
    assert_ne!(pretended("a", b"one").salt, pretended("b", b"one").salt);
    assert_ne!(pretended("a", b"one").salt, pretended("a", b"two").salt);
    assert_eq!(pretended("a", b"one").salt.len(), SALT);
}

#[test]
fn a_wrong_password_costs_the_same_whatever_is_known_of_the_user() {
    use std::collections::BTreeMap;
    let work = |done: ScramMechanism, iterations: u32| {
        let mut all = BTreeMap::from([(done, iterations)]);
        for (mechanism, more) in left_over(done, iterations) {
            *all.entry(mechanism).or_default() += more.get();
        }
        all
    };
    let most = BTreeMap::from(ScramMechanism::ALL.map(|mechanism| (mechanism, MOST_ITERATIONS)));
    for mechanism in ScramMechanism::ALL {
        for iterations in [0, LEAST_ITERATIONS, 8192, MOST_ITERATIONS] {
            assert_eq!(work(mechanism, iterations), most, "{mechanism:?} {iterations}");
        }
    }
    // And it is still the password that decides.
    let iterations = NonZeroU32::new(LEAST_ITERATIONS).unwrap();
    for mechanism in ScramMechanism::ALL {
        let credential = ScramCredential::derive(mechanism, "wonderland", b"salt", iterations);
        assert!(credential.is_of(mechanism, "wonderland") && !credential.is_of(mechanism, "wonderlan"));
        assert!(!ScramCredential::pretended(mechanism, "nobody", b"secret").is_of(mechanism, "wonderland"));
    }
}
