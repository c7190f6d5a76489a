"""
Pages in the browser, made with Gradio, which is imported only when a page is made. In the order of reading:

    style       colours, fonts and sizes of all pages
    page        what the pages share: header and footer, address, errors as sentences, escaped text
    guard       around a page's server: limits of size, time and rate, errors that say nothing of the machine
    login       the password of a page
    server      how a page's server lives and ends: slow connections, memory, Ctrl-C
    examples    examples to click on that are true for the model that is shown
    chat        chat with an instruction follower
    words       a text word by word, and the curve of its probability, as HTML
    classify    the page of a classifier: a message word by word, a file of messages
    compare     a blind vote between two models' answers
    space       a page as a folder that runs by itself, also as a Hugging Face Space
    static_page a page as a folder of static files, whose model runs in the browser's tab; `static/` has its scripts
    static_classify, static_chat  the static pages of a classifier, and of a language model or a bot
    npm         the JavaScript libraries of the static pages
"""
