//! When a member may vote: what peers remember of its lives, and what they object to.

#[path = "support/directed.rs"]
mod directed;
#[path = "support/lone.rs"]
mod lone;

use upaxos_core::replica::Event;

use lone::{Life, Lone};

/// Member 0 of `n` in its second life. Its peers have not answered about this life yet.
fn returned(n: u16) -> Lone {
    let mut lone = Lone::member(n, 0);
    lone.restart_unremembered();
    lone.forget_wire();
    assert!(!lone.node.is_voter(), "no peer knows of this life");
    lone
}

fn is_barred(lone: &Lone) -> bool {
    lone.events.iter().any(|event| matches!(event, Event::MayNotVote(_)))
}

#[test]
fn a_founder_votes_first_when_enough_peers_remember_it() {
    assert!(directed::a_founder_votes_first_when_enough_peers_remember_it());
}

#[test]
fn a_second_incarnation_is_not_registered() {
    assert!(directed::a_second_incarnation_is_not_registered());
}

#[test]
fn a_founder_that_enough_peers_remember_waits_for_the_others_to_object() {
    let mut lone = Lone::new(3, 0);
    lone.meet();
    lone.hear("1 Registered 0 1\n2 Registered 0 1");
    assert!(!lone.node.is_voter());
    lone.wait_for_objections();
    assert!(lone.node.is_voter());
}

#[test]
fn only_founders_begin_a_group_and_remember_each_other() {
    let mut lone = Lone::new(3, 0);
    lone.meet();
    lone.hear("1 Registered 0 1\n3 Registered 0 1");
    lone.wait_for_objections();
    assert!(!lone.node.is_voter(), "id 3 is not one of the first three");
    let mut next = Lone::new(3, 3);
    next.meet();
    next.hear("0 Registered 3 1\n1 Registered 3 1\n2 Registered 3 1");
    next.wait_for_objections();
    next.run_for(1_000);
    assert!(!next.node.is_voter() && !next.has_said(" Register "));
}

#[test]
fn a_member_that_comes_back_votes_when_a_quorum_with_itself_remembers_this_life() {
    let mut lone = returned(5);
    lone.hear("1 Registered 0 2\n1 Registered 0 2");
    lone.wait_for_objections();
    assert!(!lone.node.is_voter(), "two of five are no quorum, however long the node waits");
    lone.hear("2 Registered 0 2");
    assert!(lone.node.is_voter());
}

#[test]
fn a_member_that_a_quorum_remembers_waits_for_the_others_to_object() {
    let mut lone = returned(5);
    lone.hear("1 Registered 0 2\n2 Registered 0 2\n3 Registered 0 2");
    assert!(!lone.node.is_voter(), "node 4 may know of a later life");
    lone.wait_for_objections();
    assert!(lone.node.is_voter());
}

/// Empty directories for all ids remember each other. Only the node 0 that founded the group, and gave it its
/// identity, can make them voters.
#[test]
fn a_founder_votes_first_when_the_very_node_0_that_founded_the_group_remembers_it() {
    let mut lone = Lone::new(3, 1);
    lone.meet();
    lone.hear("2 Registered 1 1");
    for line in ["0 Beat 3 8000 1 500 - 0 waits 1", "0 Register 3 8000 1 500", "0 Registered 1 1"] {
        lone.hear_from(Life::AnotherDisk, line);
    }
    lone.wait_for_objections();
    assert!(!lone.node.is_voter(), "that node 0 is another one");
    lone.hear("0 Registered 1 1");
    assert!(lone.node.is_voter());
}

#[test]
fn an_objection_of_another_life_of_a_peer_bars_nobody() {
    let mut lone = returned(3);
    let boot = lone.node.boot().boot;
    for life in Life::ALL {
        lone.hear_from(life, &format!("1 Barred 0 {boot} 7777 1\n2 Barred 0 {boot} 7777 1"));
    }
    assert!(!is_barred(&lone));
    lone.hear(&format!("1 Registered 0 {boot}\n2 Registered 0 {boot}"));
    assert!(lone.node.is_voter());
}

#[test]
fn a_member_that_all_others_remember_waits_for_nobody() {
    let mut lone = returned(3);
    lone.hear("1 Registered 0 2");
    assert!(!lone.node.is_voter());
    lone.hear("2 Registered 0 2");
    assert!(lone.node.is_voter());
}

#[test]
fn a_member_asks_until_every_other_member_remembers_this_life() {
    let mut lone = returned(3);
    lone.hear("1 Registered 0 2");
    lone.wait_for_objections();
    assert!(lone.node.is_voter(), "a quorum is enough to vote");
    lone.forget_wire();
    lone.run_for(300);
    assert!(lone.has_said(" Register "), "node 2 could not tell an older disk from this one");
    lone.hear("2 Registered 0 2");
    lone.forget_wire();
    lone.run_for(300);
    assert!(!lone.has_said(" Register "));
}

#[test]
fn what_peers_remember_of_an_earlier_life_or_of_another_node_says_nothing_about_this_life() {
    let mut lone = returned(3);
    lone.hear("1 Registered 0 1\n2 Registered 0 1");
    lone.hear("1 Registered 2 2\n2 Registered 1 2");
    lone.wait_for_objections();
    assert!(!lone.node.is_voter());
}

#[test]
fn an_objection_to_another_disk_bars_a_member_that_asks_to_vote() {
    // Another incarnation; a later start; and the same start in another boot, as of a copied disk.
    for objection in ["1 Barred 0 2 77 1", "1 Barred 0 2 1000 3", "1 Barred 0 2 1000 2"] {
        let mut lone = returned(3);
        lone.hear(objection);
        lone.hear("1 Registered 0 2\n2 Registered 0 2");
        lone.wait_for_objections();
        assert!(!lone.node.is_voter() && is_barred(&lone), "{objection}");
        assert!(
            lone.run_for(150).contains(&"0 Barred 0 2 1000 2 2".into()),
            "it repeats that with its beats"
        );
    }
}

#[test]
fn a_member_that_hears_it_was_put_out_does_not_vote_and_waits_for_that_change_without_other_advice() {
    let mut lone = returned(3);
    lone.hear("1 Barred 0 2 0 0");
    lone.hear("1 Registered 0 2\n2 Registered 0 2");
    lone.wait_for_objections();
    assert!(!lone.node.is_voter() && !is_barred(&lone), "the operator need not do anything");
    assert!(lone.run_for(150).contains(&"0 Barred 0 2 1000 2 2".into()), "it repeats that with its beats");
}

#[test]
fn an_objection_to_an_earlier_life_or_to_another_node_bars_nobody() {
    // Another boot of this disk; another node; and a start before this one.
    for objection in ["1 Barred 0 1 77 1", "1 Barred 2 2 77 1", "1 Barred 0 2 1000 1"] {
        let mut lone = returned(3);
        lone.hear(objection);
        lone.hear("1 Registered 0 2\n2 Registered 0 2");
        assert!(lone.node.is_voter(), "{objection}");
        lone.hear(objection);
        assert!(lone.node.is_voter() && !is_barred(&lone), "{objection}, when it votes");
    }
}

#[test]
fn a_member_is_not_barred_by_its_own_life_nor_by_a_stranger() {
    // A peer that remembers this very life; and a non-member that names a later life.
    for objection in ["1 Barred 0 2 1000 2 2", "1 Barred 0 2 1000 3 2", "9 Barred 0 2 1000 3 7"] {
        let mut lone = returned(3);
        lone.hear("1 Registered 0 2\n2 Registered 0 2");
        lone.hear(objection);
        assert!(lone.node.is_voter() && !is_barred(&lone), "{objection}");
    }
}

/// A node of a later group may know more than the members that this node knows of. One line may be forged.
#[test]
fn a_member_is_barred_by_a_node_that_goes_on_objecting() {
    let mut lone = returned(3);
    lone.hear("1 Registered 0 2\n2 Registered 0 2");
    lone.hear("9 Barred 0 2 1000 3 7\n9 Barred 0 2 1000 3 7");
    assert!(lone.node.is_voter());
    lone.run_for(100);
    lone.hear("9 Barred 0 2 1000 3 7");
    assert!(!lone.node.is_voter() && is_barred(&lone));
}

#[test]
fn a_damaged_start_in_a_beat_or_a_register_is_no_other_life() {
    let mut lone = Lone::member(3, 0);
    lone.forget_wire();
    lone.hear("1 Beat 3 1001 0 501 - 0 waits 0");
    lone.hear("1 Register 3 1001 0 501");
    assert_eq!(answers(&mut lone), [""; 0]);
    lone.hear("1 Register 3 1001 1 501");
    assert_eq!(answers(&mut lone), ["0 Registered 1 501"]);
}

#[test]
fn a_late_objection_does_not_silence_a_member_that_votes() {
    let mut lone = returned(3);
    lone.hear("1 Registered 0 2\n2 Registered 0 2");
    lone.hear("1 Barred 0 2 77 1");
    assert!(lone.node.is_voter() && !is_barred(&lone));
}

/// The node's objections and registrations since the last call.
fn answers(lone: &mut Lone) -> Vec<String> {
    let said = lone.take().into_iter();
    said.filter(|line| line.contains(" Barred ") || line.contains(" Registered ")).collect()
}

#[test]
fn one_damaged_number_in_a_register_bars_no_later_life() {
    let mut lone = Lone::member(3, 0);
    answers(&mut lone);
    // A digit of the start is damaged, once; then one of the boot.
    lone.hear("1 Beat 3 1001 1 501 - 0 waits 0\n1 Register 3 1001 9000000 501\n1 Register 3 1001 2 501");
    assert!(answers(&mut lone).is_empty());
    lone.hear("1 Beat 3 1001 2 77 - 0 waits 0\n1 Register 3 1001 2 77");
    assert_eq!(answers(&mut lone), ["0 Registered 1 77"]);
}

#[test]
fn one_damaged_number_in_the_first_beat_of_a_peer_bars_none_of_its_lives() {
    for damaged in ["1001 9000000 501", "1001 1 7"] {
        let mut lone = Lone::new(3, 0);
        lone.hear(&format!("1 Beat 3 {damaged} - 0 waits 0"));
        answers(&mut lone);
        lone.hear("1 Beat 3 1001 1 501 - 0 waits 0\n1 Register 3 1001 1 501");
        assert_eq!(answers(&mut lone), ["0 Registered 1 501"], "{damaged}");
    }
}

#[test]
fn a_beat_that_names_another_directory_than_its_datagram_introduces_nobody() {
    let mut lone = Lone::new(3, 0);
    let said = "1 Beat 3 1001 1 501 - 0 waits 0\n1 Beat 3 1001 1 501 - 0 waits 0\n1 Register 3 1001 1 501";
    lone.hear_from(Life::AnotherDisk, said);
    assert_eq!(lone.node.dropped().other_lives, 3);
    assert!(answers(&mut lone).is_empty());
    lone.hear("1 Beat 3 1001 1 501 - 0 waits 0\n1 Register 3 1001 1 501");
    assert_eq!(answers(&mut lone), ["0 Registered 1 501"]);
}

#[test]
fn a_damaged_beat_that_is_said_again_and_again_bars_no_life() {
    for damaged in ["1001 4 504", "1001 1 501"] {
        let mut lone = Lone::new(3, 0);
        for _ in 0..5 {
            lone.hear(&format!("1 Beat 3 {damaged} - 0 waits 0"));
        }
        lone.hear("1 Beat 3 1001 1 77 - 0 waits 0\n1 Register 3 1001 1 77");
        assert_eq!(answers(&mut lone), ["0 Registered 1 77"], "{damaged}");
    }
}

#[test]
fn one_forged_beat_of_a_later_epoch_does_not_bar_a_founder_but_it_waits_while_it_hears_that() {
    let mut lone = Lone::new(3, 0);
    lone.meet();
    lone.hear("1 Registered 0 1\n2 Registered 0 1");
    for _ in 0..8 {
        lone.hear("1 Beat 3 1001 1 501 5:65537 0 leads 0");
        lone.run_for(100);
    }
    assert!(!lone.node.is_voter() && !is_barred(&lone));
    lone.hear("1 Beat 3 1001 1 501 - 0 waits 0");
    lone.run_for(5);
    lone.wait_for_objections();
    lone.run_for(100);
    assert!(lone.node.is_voter());
}
