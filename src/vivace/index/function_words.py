"""English words that tell how something is said, not what about; spelled as customers type them."""

_WORDS = """
a abit able about abt actually after again all almost already also always am an and another any anymore anyone
anything are around as ask asked at away back bcoz bcz be because been before being best better bit both but by call
called came can cannot cant cnt come could couldnt coz currently cuz da dat day days dear did didnt different dis do
does doesnt doing done dont down each either else even ever every everything exactly far few find first for from get
gets getting give given go goes going gonna good got gotta great guys had happen happened happening has hasnt hav
have havent having he hello help her here hers hey hi him his how however hv i id if ill im in instead into is isnt
it its itself ive just keep kind know last later least let lets like little long look looking lot maam madam made
make mam many may maybe me mean might mine more most much must my myself n need needed never new next nice no none
nor not nothing now of off oh ok okay old on once one only or other our out over own people perhaps please pls plz
put quite r real really right said same saw say saying says see seem seems send sent set several shall she should
show since sir so some someone someones something soon sorry still such suddenly supposed sure take taken tell than
thank thanks that thats the their them then there theres these they theyre thing things think this those though thru
thx till time to today told too try trying two u under until up ur us use used using very wanna want wanted was
wasnt wat way we well went were what whats when where which while who whole whom whose whr wht why will with without
wont would wouldnt ws wth wud y yeah yep yes yet you your youre yours
"""

FUNCTION_WORDS = frozenset(_WORDS.split())
