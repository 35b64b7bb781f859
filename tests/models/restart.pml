/*
 * Restart and swap of one service: two clients, crashes at every step.
 *
 * What is modelled:
 *
 * - the kernel: a call waits in its caller until it is answered. When a server dies, the calls that
 *   it held go back to the endpoint before anyone can tell that it died.
 * - a server: takes a call, looks it up in its state region, does what is asked and notes it with
 *   the reply as one record, replies. It may die between any two of these.
 * - `init`: restarts what died; swaps the service to a new version and back, after a rehearsal with
 *   a copy of the state; may die itself between any two steps and finds its ledger (`current`,
 *   `swap`) again.
 *
 * Slot 0 and slot 1 stand for the two instances that can exist at a time, each with its own state
 * region. `current` names the one that is the service.
 *
 * What is checked (see README.md): each call of a client is carried out exactly once, as seen in
 * the state of the service and in the reply; no two instances receive at a time; nothing
 * deadlocks; all calls are answered once the crashes stop, since they are bounded and no process
 * may loop without progress.
 *
 * BROKEN_... leave one rule of the protocol out. Spin must find an error in each of them, which
 * proves that the checks can fail.
 */

#ifndef CALLS
#define CALLS 2
#endif
#ifndef CRASHES
#define CRASHES 3
#endif
#ifndef SWAPS
#define SWAPS 1
#endif

#define CLIENTS 2
#define NOBODY 2

mtype:call = { idle, waiting, held, answered };
mtype:swap = { none, begun, committed };

/* The kernel. It outlives everyone. */
mtype:call call[CLIENTS] = idle;
byte number[CLIENTS];           /* sequence number of the call */
byte holder[CLIENTS] = NOBODY;  /* the instance that has the duty to answer */
byte reply[CLIENTS];            /* what the caller was told */

/* The processes of the service. */
bool alive[2];
bool is_gone[2];                /* its threads have ended: another may take the slot */
bool may_receive[2];            /* the gate is open */
bool is_asked_to_rest[2];
bool is_resting[2];
bool has_state[2];              /* a new version may open its region */
bool is_tested[2];

/* The state regions: number of the last request done for each client, and the effects of all. */
typedef Region {
    byte done[CLIENTS];
    byte effects[CLIENTS];
};
Region region[2];

/* The ledger of init: its own state region. */
byte current;
mtype:swap swap = none;

/* Faults and swaps that are left. */
bool init_alive = true;
byte crashes = CRASHES;
byte swaps = SWAPS;

/* Runs a step as instance `me`, if it still lives. */
#define IF_ALIVE(step) atomic { if :: alive[me] -> step :: !alive[me] -> goto dead fi }

/* The kernel ends an instance. What it held goes back before anyone can tell that it died. */
inline end_instance(i) {
    alive[i] = false;
    may_receive[i] = false;
    is_resting[i] = false;
#ifndef BROKEN_NO_REDELIVERY
    if :: holder[0] == i && call[0] == held -> call[0] = waiting; holder[0] = NOBODY :: else fi;
    if :: holder[1] == i && call[1] == held -> call[1] = waiting; holder[1] = NOBODY :: else fi;
#endif
}

inline start_instance(i) {
    is_gone[i] = false;
    is_asked_to_rest[i] = false;
    has_state[i] = false;
    is_tested[i] = false;
    alive[i] = true;
}

active [CLIENTS] proctype Client() {
    byte me = _pid;
    do
    :: number[me] < CALLS ->
        atomic { number[me]++; call[me] = waiting }
        atomic {
            call[me] == answered ->
            /* The reply tells how often anything was done for this client. */
            assert(reply[me] == number[me]);
            call[me] = idle
        }
    :: else -> break
    od;
}

/* Instance 0 has _pid 2, instance 1 has _pid 3. */
active [2] proctype Server() {
    byte me = _pid - CLIENTS;
    byte client;
    byte request;

dead:
    atomic { client = 0; request = 0 }
end_dead:
    do
    :: atomic { !alive[me] && !is_gone[me] -> is_gone[me] = true }
    :: atomic { alive[me] -> break }
    od;
    /* A new version waits until its state is there, and is tested before it receives. */
    do
    :: atomic { !alive[me] -> goto dead }
    :: atomic { alive[me] && may_receive[me] -> break }
    :: atomic { alive[me] && !may_receive[me] && has_state[me] && !is_tested[me] ->
        if
        :: is_tested[me] = true
        :: end_instance(me); goto dead  /* it cannot read the state, or fails its test */
        fi }
    od;

end_serve:
    do
    :: atomic { !alive[me] -> goto dead }
    :: atomic { alive[me] && is_asked_to_rest[me] && !is_resting[me] -> is_resting[me] = true }
    :: atomic { alive[me] && is_resting[me] && !is_asked_to_rest[me] -> is_resting[me] = false }
#ifdef BROKEN_NO_REST
    :: atomic { alive[me] && call[0] == waiting ->
#else
    :: atomic { alive[me] && !is_resting[me] && !is_asked_to_rest[me] && call[0] == waiting ->
#endif
        call[0] = held; holder[0] = me; client = 0; request = number[0]; goto work }
#ifdef BROKEN_NO_REST
    :: atomic { alive[me] && call[1] == waiting ->
#else
    :: atomic { alive[me] && !is_resting[me] && !is_asked_to_rest[me] && call[1] == waiting ->
#endif
        call[1] = held; holder[1] = me; client = 1; request = number[1]; goto work }
    od;

work:
    /* Only one instance may be at work. */
    assert(!(may_receive[0] && may_receive[1]));
    if
    :: atomic { !alive[me] -> goto dead }
#ifndef BROKEN_NO_JOURNAL
    :: atomic { alive[me] && region[me].done[client] == request -> skip }
    :: atomic { alive[me] && region[me].done[client] != request -> goto commit }
#else
    :: atomic { alive[me] -> goto commit }
#endif
    fi;
    goto answer;
commit:
#ifdef BROKEN_TWO_RECORDS
    IF_ALIVE(region[me].effects[client]++);
    IF_ALIVE(region[me].done[client] = request);
#else
    IF_ALIVE(region[me].effects[client]++; region[me].done[client] = request);
#endif
answer:
    atomic {
        if
        :: !alive[me] -> goto dead
        :: alive[me] ->
            /* A duty that went back, or whose caller gave up, is gone. */
            if
            :: call[client] == held && holder[client] == me ->
                reply[client] = region[me].effects[client];
                call[client] = answered;
                holder[client] = NOBODY
            :: else
            fi
        fi
    }
    client = 0;
    request = 0;
    goto end_serve;
}

/* A step of init, if it lives. */
#define INIT(step) atomic { if :: init_alive -> step :: !init_alive -> goto restarted fi }

active proctype Init() {
    byte new;
    bool is_rehearsed;  /* the new version has read and tested a copy of the state */

    goto supervise;

restarted:
    /* The kernel starts it again; the ledger is all that it knows. */
    atomic { init_alive = true; is_rehearsed = false; new = 1 - current }
    if
    :: atomic { !init_alive -> goto restarted }
    :: atomic { init_alive && swap == begun -> goto roll_back }
    :: atomic { init_alive && swap == committed -> goto finish }
    :: atomic { init_alive && swap == none ->
        /* A swap is noted before anything of it is done, so nothing else is left over. */
        assert(!alive[new]) }
    fi;
    INIT(is_asked_to_rest[current] = false);
    new = 0;
    goto supervise;

supervise:
end_supervise:
    do
    :: atomic { !init_alive -> goto restarted }
    :: atomic { init_alive && !alive[current] && is_gone[current] ->
        start_instance(current); may_receive[current] = true }
    :: atomic { init_alive && swaps > 0 && alive[current] && is_gone[1 - current] ->
        swaps--; swap = begun; new = 1 - current; goto begin }
    od;

begin:
    INIT(start_instance(new));
    /* The old one must have gone on since the rehearsal: of two orders it may see the last only. */
    if
    :: atomic { !init_alive -> goto restarted }
    :: atomic { init_alive && alive[current] && !is_resting[current] }
    :: atomic { init_alive && !alive[current] && is_gone[current] -> goto roll_back }
    :: atomic { init_alive && is_rehearsed && alive[current] -> goto roll_back }
    fi;
    INIT(is_asked_to_rest[current] = true);
    /* The old one comes to rest, or it dies, or the time is over. */
    if
    :: atomic { !init_alive -> goto restarted }
#ifdef BROKEN_COPY_EARLY
    :: atomic { init_alive }
#else
    :: atomic { init_alive && is_resting[current] }
#endif
    :: atomic { init_alive && !alive[current] && is_gone[current] -> goto roll_back }
    :: atomic { init_alive && alive[current] && !is_resting[current] -> goto roll_back }
    fi;
    INIT(region[new].done[0] = region[current].done[0];
         region[new].effects[0] = region[current].effects[0]);
    INIT(region[new].done[1] = region[current].done[1];
         region[new].effects[1] = region[current].effects[1]);
    /* A rehearsal needs no more of the old one. */
    INIT(is_asked_to_rest[current] = is_rehearsed);
    INIT(has_state[new] = true);
    if
    :: atomic { !init_alive -> goto restarted }
    :: atomic { init_alive && is_tested[new] }
    :: atomic { init_alive && !alive[new] -> goto roll_back }
    :: atomic { init_alive && !is_tested[new] -> goto roll_back }  /* it took too long */
    fi;
#ifndef BROKEN_STATE_OF_REHEARSAL
    if
    :: atomic { !init_alive -> goto restarted }
    :: atomic { init_alive && is_rehearsed }
    :: atomic { init_alive && !is_rehearsed ->
        is_rehearsed = true;
        if :: alive[new] -> end_instance(new) :: else fi }
        if
        :: atomic { !init_alive -> goto restarted }
        :: atomic { init_alive && is_gone[new] -> goto begin }
        fi
    fi;
#endif
#ifdef BROKEN_OLD_DIES_FIRST
    /* The old one is gone, and the ledger still says that it is the service. */
    INIT(region[current].done[0] = 0; region[current].effects[0] = 0;
         if :: alive[current] -> end_instance(current) :: else fi);
#endif
    INIT(current = new; swap = committed);
finish:
    /* From here on the new version is the service, whatever happens. */
    new = 1 - current;
    INIT(if :: alive[new] -> end_instance(new) :: else fi);
    INIT(may_receive[current] = alive[current]; swap = none);
    is_rehearsed = false;
    new = 0;
    goto supervise;

roll_back:
    new = 1 - current;
    INIT(if :: alive[new] -> end_instance(new) :: else fi);
#ifndef BROKEN_NO_GO_ON
    INIT(is_asked_to_rest[current] = false);
#endif
    INIT(swap = none);
    is_rehearsed = false;
    new = 0;
    goto supervise;
}

/* Crashes anyone at any moment, a bounded number of times. */
active proctype Chaos() {
end_chaos:
    do
    :: atomic { crashes > 0 && alive[0] -> crashes--; end_instance(0) }
    :: atomic { crashes > 0 && alive[1] -> crashes--; end_instance(1) }
    :: atomic { crashes > 0 && init_alive -> crashes--; init_alive = false }
    od
}
