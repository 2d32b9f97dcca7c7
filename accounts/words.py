"""The 256 words of the match phrase: plain, short, kind, easy to say on the telephone, one for each byte."""

WORDS = tuple(
    """
    acorn album alley amber anchor angle apple apron arrow atlas autumn avenue badge bagel bamboo banjo barley
    basil basket beach beacon berry birch blanket blossom board boat bonnet book border bottle bracket branch
    bread breeze brick bridge broom bucket butter button cabin cable cactus camel candle canoe canvas canyon
    carbon carpet carrot castle cedar cello chalk cherry chess circle citrus clay cliff clock cloud clover
    cobalt cocoa comet copper coral cotton cradle crane crater crayon cricket crown cube curtain daisy delta
    desert dolphin domino donkey drawer drum eagle easel echo elbow elm ember engine fabric falcon feather
    fern ferry fiddle field flag flute forest fossil fountain fox frost galaxy garden garlic gate ginger
    glacier globe glove goat granite grape gravel guitar hammer hammock harbor harp hazel hedge helmet heron
    hill honey horizon igloo island ivory ivy jacket jasmine jelly jigsaw juniper kayak kettle kite koala
    ladder lagoon lake lamp lantern laurel lemon lentil lilac lime linen lizard lobster lotus magnet maple
    marble meadow melon mint mirror mitten moon mosaic moss mountain muffin mustard napkin needle nest noodle
    nutmeg oak oasis ocean olive onion orange orbit orchid otter oven owl paddle palm panda papaya paper
    parade parrot pasta peach pebble pencil pepper piano pillow pine planet plum pocket pond poppy prism
    puddle pumpkin puzzle quartz quilt rabbit radish raft rainbow raven ribbon river robin rocket rose saddle
    sail salmon sand satin saturn scarf shell silver sketch snow sofa spoon spruce squirrel star stone sugar
    summer swan teapot thistle tiger trumpet tulip turtle valley velvet violin walnut willow
    """.split()  # noqa: SIM905 (a wall of quotes and commas would hide the words)
)
